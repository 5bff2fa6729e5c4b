//! An application that reads from before a report of its key until every row is moved: no read fails.

use std::{fmt, time::Instant};

use anyhow::{Context, bail};
use rekey_domain::RotationState;
use rekey_store::rotations;
use serde::Serialize;

use super::{
    LOOK, PATIENCE, Reporter,
    application::{Read, Task},
    beside::Beside,
};
use crate::rows::{self, KeyType};

/// How the reads went.
#[derive(Debug, Serialize)]
pub struct Reads {
    rows: i64,
    #[serde(flatten)]
    read: Read,
    /// From the commit of the report to the end of the emergency.
    seconds: f64,
}

impl fmt::Display for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Read { reads, failed, .. } = self.read;
        write!(
            f,
            "{failed} of {reads} reads failed from the report to the end of the emergency, {:.1} s, {} rows",
            self.seconds, self.rows
        )?;
        match &self.read.first {
            Some(first) => write!(f, "; the first: {first}"),
            None => Ok(()),
        }
    }
}

/// Reports `phi/1` while its values are read.
pub async fn measure(reporter: &Reporter<'_>, rows: i64) -> anyhow::Result<Reads> {
    let (deployment, key) = (reporter.deployment, KeyType::Bigint);
    rows::fill(deployment.source(), deployment.services(), rows, key).await?;
    let mut application = Beside::start(reporter, Task::Read, &[]).await?;
    let (reported, _) = reporter.report("phi/1").await?;
    let began = Instant::now();
    let rotation = reported.rotation.context("an emergency")?;
    loop {
        let found = rotations::by_id(deployment.services().store.db(), rotation).await?;
        match found.state {
            RotationState::Completed => break,
            RotationState::Failed => bail!("the emergency failed"),
            _ if began.elapsed() > PATIENCE => bail!("the emergency is still {}", found.state),
            _ => tokio::time::sleep(LOOK).await,
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    application.tell("stop").await?;
    Ok(Reads {
        rows,
        read: application.hear().await?,
        seconds,
    })
}
