//! Reads rows of the table at random, and opens what it finds.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, ensure};
use rekey_domain::BindValue;
use rekey_operations::Services;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use super::{Told, say};
use crate::rows;

/// How often it reads.
const PACE: Duration = Duration::from_millis(1);

/// What it read.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Read {
    pub reads: u64,
    pub failed: u64,
    /// What was wrong first.
    pub first: Option<String>,
}

/// Reads from the start until it is told a line; then answers.
pub async fn run(services: &Services, url: &str, told: &mut Told) -> anyhow::Result<()> {
    let pool = PgPool::connect(url).await?;
    let last = sqlx::query_scalar("SELECT max(id) FROM bench");
    let last: i64 = last.fetch_one(&pool).await?;
    one(services, &pool, last).await?;
    say(&())?;
    let stopped = AtomicBool::new(false);
    let stopping = async {
        let _ = told.recv().await;
        stopped.store(true, Ordering::Relaxed);
    };
    let reading = async {
        let mut read = Read::default();
        while !stopped.load(Ordering::Relaxed) {
            tokio::time::sleep(PACE).await;
            read.reads += 1;
            if let Err(error) = one(services, &pool, rand::random_range(1..=last)).await {
                read.failed += 1;
                read.first.get_or_insert(error.to_string());
            }
        }
        read
    };
    let (read, ()) = tokio::join!(reading, stopping);
    say(&read)
}

async fn one(services: &Services, pool: &PgPool, id: i64) -> anyhow::Result<()> {
    let sealed = sqlx::query_scalar("SELECT v FROM bench WHERE id = $1");
    let sealed: Vec<u8> = sealed.bind(id).fetch_one(pool).await?;
    let bind = [BindValue::Integer(id)];
    let opened = services.client.decrypt(rows::COLUMN, &bind, &sealed).await;
    let opened = opened.context("a value is opened")?;
    ensure!(
        *opened == rows::plaintext(id)?,
        "a value says another thing"
    );
    Ok(())
}
