//! Channels as the file has them: made, changed, removed.

use rekey_runtime::config::ChannelConfig;
use rekey_store::{StoreError, Unit, channels};

use super::Change;

/// Writes them; what is not in the file is told nothing any more.
pub(super) async fn write(
    unit: &Unit,
    desired: &[ChannelConfig],
) -> Result<Vec<Change>, StoreError> {
    let mut changes = Vec::new();
    let mut note = |name: &str, change: &str| {
        changes.push(Change {
            subject: format!("channel {name}"),
            change: change.to_owned(),
        });
    };
    let known = channels::all(unit.db()).await?;
    for wanted in desired {
        let (name, kind) = (&wanted.name, wanted.receiver.kind());
        match known.iter().find(|one| one.name == *name) {
            None => {
                channels::make(unit, name, kind, &wanted.policy).await?;
                note(name.as_str(), "made");
            }
            Some(one) if one.kind != kind || one.policy != wanted.policy => {
                channels::change(unit, one, kind, &wanted.policy).await?;
                note(name.as_str(), "changed");
            }
            Some(_) => {}
        }
    }
    for one in &known {
        if desired.iter().all(|wanted| wanted.name != one.name) {
            channels::remove(unit, one).await?;
            note(one.name.as_str(), "removed");
        }
    }
    Ok(changes)
}
