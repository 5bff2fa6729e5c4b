//! Whether a pooler gives a session another connection of the server each time.
//!
//! Behind such a pooler, what a session sets, prepares or listens for is lost, or reaches somebody else.

use sqlx::{PgConnection, Row};

/// Two looks would do if we were alone. Other users of the pooler may mix up its connections so that two show nothing.
/// Each look is five round trips, before anything is done.
const LOOKS: usize = 4;
/// A pooler's answer to what it does not support. PostgreSQL gives it only to broken programs.
const PROTOCOL_VIOLATION: &str = "08P01";

/// Whether two sessions get each other's connections. A real session keeps its process at the server, whatever another
/// session holds.
pub(super) async fn shares(
    ours: &mut PgConnection,
    other: &mut PgConnection,
) -> sqlx::Result<bool> {
    let process = ask(ours, PROCESS).await?;
    for look in 0..LOOKS {
        let held = match ask(other, HELD_PROCESS).await {
            Err(error) if refuses_transactions(&error) => return Ok(true),
            held => held?,
        };
        // If there is only one connection, asking for it would mean waiting for ourselves.
        if held == process {
            roll_back(other).await?;
            return Ok(true);
        }
        let is_shared = ask(ours, HELD_PROCESS).await? != process;
        // A pooler hands out the connection given back last, or the one given back first: now or the next time each
        // session gets the other's.
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

// Not prepared, as prepared statements are what would be lost.
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

/// A pooler that gives a connection for one statement refuses transactions.
fn refuses_transactions(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code == PROTOCOL_VIOLATION)
}
