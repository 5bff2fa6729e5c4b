//! The application beside: updates of single rows by primary key, at a steady pace, each timed.

use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How long it is watched while nothing else happens.
pub const QUIET: Duration = Duration::from_secs(10);
const PACE: Duration = Duration::from_millis(10);

/// How long its updates took.
#[derive(Debug, Clone, Copy)]
pub struct Latency {
    /// Updates made.
    pub updates: usize,
    /// 99 of 100 were done within this, in milliseconds.
    pub p99: f64,
}

/// Its updates for a while.
pub async fn latency(pool: &PgPool, lasts: Duration) -> anyhow::Result<Latency> {
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        tokio::time::sleep(lasts).await;
        stopping.cancel();
    });
    latency_until(pool, stop).await
}

/// Its updates until `stop`. It writes a column of its own, as most of an application's updates do.
pub async fn latency_until(pool: &PgPool, stop: CancellationToken) -> anyhow::Result<Latency> {
    let mut connection = pool.acquire().await?;
    let ids = "SELECT id::text FROM bench TABLESAMPLE SYSTEM (1) LIMIT 5000";
    let ids: Vec<String> = sqlx::query_scalar(ids).fetch_all(&mut *connection).await?;
    let typed = "SELECT data_type FROM information_schema.columns WHERE table_name = 'bench' AND column_name = 'id'";
    let typed: String = sqlx::query_scalar(typed)
        .fetch_one(&mut *connection)
        .await?;
    let update = match typed.as_str() {
        "uuid" => "UPDATE bench SET note = $1 WHERE id = $2::uuid",
        _ => "UPDATE bench SET note = $1 WHERE id = $2::bigint",
    };
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut taken = Vec::new();
    while !stop.is_cancelled() {
        ticks.tick().await;
        let id = &ids[rand::random_range(0..ids.len())];
        let started = Instant::now();
        let note = i32::try_from(taken.len() % 1_000)?;
        sqlx::query(update)
            .bind(note)
            .bind(id)
            .execute(&mut *connection)
            .await?;
        taken.push(started.elapsed().as_secs_f64() * 1_000.0);
    }
    taken.sort_by(f64::total_cmp);
    let at = (taken.len() * 99 / 100).min(taken.len().saturating_sub(1));
    Ok(Latency {
        updates: taken.len(),
        p99: taken.get(at).copied().unwrap_or_default(),
    })
}
