//! Watching a rotation: its states, rows, rows a second, time left.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rekey_domain::RotationState;
use rekey_operations::{RotationView, certificates::Signature, rotation_views};

use crate::{app::App, demo::narrator::Narrator};

const LOOK: Duration = Duration::from_millis(200);
/// A demo that makes no progress for this long has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// Watches the latest rotation to its end; also answers how long rows were being moved.
pub async fn watch(
    app: &App,
    rows: u32,
    say: &Narrator,
) -> anyhow::Result<(RotationView, Duration)> {
    let mut state = None;
    let mut moving: Option<(Instant, Option<Duration>)> = None;
    let mut last_change = (Instant::now(), 0);
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(rotation) = rotation_views(&app.services, &app.principal)
            .await?
            .into_iter()
            .next()
        else {
            continue;
        };
        if state != Some(rotation.state) {
            state = Some(rotation.state);
            say.line(describe(rotation.state));
            last_change.0 = Instant::now();
        }
        if rotation.state == RotationState::ReEncrypting {
            moving.get_or_insert((Instant::now(), None));
        } else if let Some((since, done @ None)) = &mut moving {
            *done = Some(since.elapsed());
        }
        if let Some((since, None)) = moving {
            say.progress(rotation.moved / 2, u64::from(rows), since.elapsed());
        }
        if rotation.moved != last_change.1 {
            last_change = (Instant::now(), rotation.moved);
        }
        // Its certificate is signed a moment after it completed.
        let waits = rotation.certificate_signature == Some(Signature::Waits);
        if !rotation.state.is_live() && !waits {
            let seen = moving.and_then(|(_, done)| done);
            // A few rows are moved between two looks.
            let took = seen
                .or((rotation.moved > 0).then_some(LOOK))
                .context("the rotation ended without moving rows")?;
            return Ok((rotation, took));
        }
        if last_change.0.elapsed() > PATIENCE {
            bail!(
                "no progress for {} s in {}; see rekey status",
                PATIENCE.as_secs(),
                rotation.state
            );
        }
    }
}

fn describe(state: RotationState) -> &'static str {
    match state {
        RotationState::Requested => "REQUESTED      waiting for the standby key",
        RotationState::Distributing => "DISTRIBUTING   handing phi/2 to clients for decryption",
        RotationState::ReEncrypting => {
            "RE_ENCRYPTING  phi/2 is primary; moving rows while the application writes"
        }
        RotationState::Grace => {
            "GRACE          clients that have not refreshed may still write under phi/1"
        }
        RotationState::Verifying => "VERIFYING      one sweep, then a census",
        RotationState::Completed => "COMPLETED      nothing is left under phi/1",
        RotationState::Failed => "FAILED",
        RotationState::Cancelled => "CANCELLED",
        RotationState::Superseded => "SUPERSEDED",
    }
}
