//! Whether a pooler is in between that gives a session another connection of the server each time.
//!
//! Settings of a session, what it prepared and what it listens for are lost there, or somebody else's.

use sea_orm::sqlx::{self, PgConnection, PgPool, Row};

/// Two would do; others that use the pooler may mix its connections up just so that these see nothing. Each is five
/// round trips, before anything is done.
const LOOKS: usize = 4;
/// What a pooler says to whom it does not serve; at PostgreSQL only broken programs meet it.
const PROTOCOL_VIOLATION: &str = "08P01";

/// Whether two sessions get connections of each other's: what is a session's own keeps its process at the
/// server, whatever another one holds.
pub(crate) async fn shares(pool: &PgPool) -> sqlx::Result<bool> {
    let (mut ours, mut other) = (pool.acquire().await?, pool.acquire().await?);
    let shared = share(&mut ours, &mut other).await?;
    // Most commands need but one, and where a session is one, others wait for it. The pooler may have ended it.
    let _ = other.close().await;
    Ok(shared)
}

async fn share(ours: &mut PgConnection, other: &mut PgConnection) -> sqlx::Result<bool> {
    let process = ask(ours, PROCESS).await?;
    for look in 0..LOOKS {
        let held = match ask(other, HELD_PROCESS).await {
            Err(error) if refuses_transactions(&error) => return Ok(true),
            held => held?,
        };
        // Where there is but one connection, to ask for it would be to wait for ourselves.
        if held == process {
            roll_back(other).await?;
            return Ok(true);
        }
        let is_shared = ask(ours, HELD_PROCESS).await? != process;
        // A pooler gives the one that was given back last, or the one that was given back first: each gets the
        // other's, this time or the next.
        let (first, last) = match look % 2 {
            0 => (&mut *ours, &mut *other),
            _ => (&mut *other, &mut *ours),
        };
        roll_back(first).await?;
        roll_back(last).await?;
        if is_shared || ask(ours, PROCESS).await? != process {
            return Ok(true);
        }
    }
    Ok(false)
}

// Nothing is prepared: that is what would be lost.
const PROCESS: &str = "SELECT pg_catalog.pg_backend_pid()::pg_catalog.text AS pid";
const HELD_PROCESS: &str = "BEGIN; SELECT pg_catalog.pg_backend_pid()::pg_catalog.text AS pid";

async fn ask(connection: &mut PgConnection, sql: &'static str) -> sqlx::Result<String> {
    sqlx::raw_sql(sql)
        .fetch_one(connection)
        .await?
        .try_get("pid")
}

async fn roll_back(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql("ROLLBACK").execute(connection).await?;
    Ok(())
}

/// As a pooler does that gives a connection for one statement.
fn refuses_transactions(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code == PROTOCOL_VIOLATION)
}
