//! Whether the store's schema is the one this program knows, and bringing it up to date.

use rekey_migrations::Migrator;
use sea_orm::{ConnectionTrait, DbBackend, Statement, TransactionTrait};
use sea_orm_migration::MigratorTrait;

use crate::{Store, StoreError, store::immediate};

/// Programs that migrate at once do so one after another. Waits for as long as a migration may take.
const ONE_AT_A_TIME: &str = "SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0; \
     SELECT pg_advisory_xact_lock(7305522);";

impl Store {
    /// Brings the schema up to date, all of it or nothing; expands only. A schema that is up to date takes
    /// no right to change it.
    ///
    /// # Errors
    /// [`StoreError::Schema`] when the schema is newer than this program.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let tx = self.db().begin_with_options(immediate()).await?;
        if tx.get_database_backend() == DbBackend::Postgres {
            tx.execute_unprepared(ONE_AT_A_TIME).await?;
        }
        if missing(&tx).await? > 0 {
            Migrator::up(&tx, None).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Refuses a schema that this program does not know, newer or older. Only reads.
    ///
    /// # Errors
    /// [`StoreError::Schema`] names what was found and what to do.
    pub async fn check_schema(&self) -> Result<(), StoreError> {
        match missing(self.db()).await? {
            0 => Ok(()),
            count => Err(StoreError::Schema {
                found: format!("lacks {count} migration(s)"),
                remedy: "run rekey init, or rekey migrate",
            }),
        }
    }
}

/// How many of our migrations the schema lacks; refuses one that has others.
async fn missing(db: &impl ConnectionTrait) -> Result<usize, StoreError> {
    let known = Migrator::migrations();
    let known: Vec<&str> = known.iter().map(|migration| migration.name()).collect();
    let applied = applied(db).await?;
    let newer = applied.iter().find(|name| !known.contains(&name.as_str()));
    match newer {
        None => Ok(known.len() - applied.len()),
        Some(newer) => Err(StoreError::Schema {
            found: format!("has {newer}, which this program does not know"),
            remedy: "use the program that made it, or a newer one",
        }),
    }
}

/// The names of the migrations that were applied. Looks first whether any were: a role that may not
/// create tables must be able to ask, and only our own schema counts.
async fn applied(db: &impl ConnectionTrait) -> Result<Vec<String>, StoreError> {
    let backend = db.get_database_backend();
    let statement = |sql: &str| Statement::from_string(backend, sql);
    let is_there = match backend {
        DbBackend::Postgres => {
            "SELECT to_regclass(quote_ident(current_schema()) || '.seaql_migrations') IS NOT NULL AS there"
        }
        _ => "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'seaql_migrations') AS there",
    };
    let row = db.query_one_raw(statement(is_there)).await?;
    let row = row.expect("a SELECT without FROM gives one row");
    if !row.try_get::<bool>("", "there")? {
        return Ok(Vec::new());
    }
    let names = statement("SELECT version FROM seaql_migrations ORDER BY version");
    let rows = db.query_all_raw(names).await?;
    let names = rows.iter().map(|row| row.try_get("", "version"));
    Ok(names.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_store::{Kind, TestStore};

    #[tokio::test]
    async fn a_schema_of_a_newer_program_is_refused_by_name() {
        for kind in Kind::BOTH {
            let store = TestStore::new(kind).await;
            let newer =
                "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m0999_moon', 0)";
            store.db().execute_unprepared(newer).await.unwrap();
            for refused in [store.check_schema().await, store.migrate().await] {
                let error = refused.unwrap_err();
                assert!(matches!(error, StoreError::Schema { .. }));
                let text = error.to_string();
                assert!(
                    text.contains("m0999_moon") && text.contains("newer one"),
                    "{text}"
                );
            }
        }
    }

    #[tokio::test]
    async fn a_schema_that_lacks_a_migration_is_refused_until_it_is_migrated() {
        for kind in Kind::BOTH {
            let store = TestStore::unmigrated(kind).await;
            let refused = store.check_schema().await;
            assert!(
                matches!(refused, Err(StoreError::Schema { .. })),
                "{refused:?}"
            );
            store.migrate().await.unwrap();
            store.check_schema().await.unwrap();
            store.migrate().await.unwrap();
        }
    }

    #[tokio::test]
    async fn programs_that_migrate_at_once_do_it_once() {
        for kind in Kind::BOTH {
            let store = TestStore::unmigrated(kind).await;
            let (second, third) = (store.another().await, store.another().await);
            let migrated = tokio::join!(store.migrate(), second.migrate(), third.migrate());
            migrated.0.and(migrated.1).and(migrated.2).unwrap();
            store.check_schema().await.unwrap();
        }
    }
}
