//! Encrypts with a keyring until it is not given the same key any more.

use std::time::Duration;

use rekey_client::Client;
use rekey_domain::KeyringName;
use serde::{Deserialize, Serialize};

use super::{super::clock::Moment, Told, keyring, say};

/// How often it encrypts.
const PACE: Duration = Duration::from_millis(1);

/// The end of a key.
#[derive(Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// When it was given the key for the last time.
    pub last_given: Moment,
    /// When it had the first answer that was another.
    pub refused: Moment,
    /// What it said, where it was an error and not another key.
    pub error: Option<String>,
}

/// Each line names a keyring; answers once it has a key of it, and once it has that key no more.
pub async fn run(client: &Client, told: &mut Told) -> anyhow::Result<()> {
    say(&())?;
    while let Some(line) = told.recv().await {
        let refusal = watch(client, &keyring(&line)?).await?;
        say(&refusal)?;
    }
    Ok(())
}

async fn watch(client: &Client, keyring: &KeyringName) -> anyhow::Result<Refusal> {
    let first = client.encryption_key(keyring, 1).await?.id();
    let mut last_given = Moment::now();
    say(&())?;
    loop {
        tokio::time::sleep(PACE).await;
        let given = client.encryption_key(keyring, 1).await;
        let now = Moment::now();
        match given {
            Ok(key) if key.id() == first => last_given = now,
            given => {
                return Ok(Refusal {
                    last_given,
                    refused: now,
                    error: given.err().map(|error| error.to_string()),
                });
            }
        }
    }
}
