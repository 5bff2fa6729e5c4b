//! Whether the store's schema is the one this program knows, and bringing it up to date.

use rekey_migrations::Migrator;
use sea_orm::{ConnectionTrait, DbBackend, Statement, TransactionTrait};
use sea_orm_migration::MigratorTrait;

use crate::{Store, StoreError, database::store::immediate};

/// Programs that migrate at once do so one after another. Waits for as long as a migration may take.
const ONE_AT_A_TIME: &str = "SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0; \
     SELECT pg_catalog.pg_advisory_xact_lock(7305522);";

/// Where the store is, and what takes from others the right to create there: whoever has it could make
/// functions that fit our calls better than PostgreSQL's own. Its owner, the owner of the store's tables
/// and superusers can do anything there already. Every name is qualified, as this finds out whether that
/// is needed.
const OPEN_TO: &str = "\
    WITH place AS (SELECT n.nspname, n.nspowner, n.nspacl, coalesce( \
            (SELECT c.relowner FROM pg_catalog.pg_class c \
             WHERE c.relnamespace OPERATOR(pg_catalog.=) n.oid \
             AND c.relname OPERATOR(pg_catalog.=) 'seaql_migrations'), \
            (SELECT r.oid FROM pg_catalog.pg_roles r \
             WHERE r.rolname OPERATOR(pg_catalog.=) CURRENT_USER)) AS owner \
        FROM pg_catalog.pg_namespace n \
        WHERE n.nspname OPERATOR(pg_catalog.=) pg_catalog.current_schema() \
        AND n.nspname OPERATOR(pg_catalog.<>) 'pg_catalog'), \
    others AS (SELECT DISTINCT x.grantee FROM place, pg_catalog.aclexplode( \
            coalesce(place.nspacl, pg_catalog.acldefault('n', place.nspowner))) AS x \
        WHERE x.privilege_type OPERATOR(pg_catalog.=) 'CREATE' \
        AND x.grantee OPERATOR(pg_catalog.<>) place.nspowner \
        AND x.grantee OPERATOR(pg_catalog.<>) place.owner) \
    SELECT pg_catalog.quote_ident(place.nspname::pg_catalog.text) AS schema, \
        (SELECT pg_catalog.string_agg(pg_catalog.format('REVOKE CREATE ON SCHEMA %I FROM %s', \
            place.nspname, coalesce(pg_catalog.quote_ident(r.rolname::pg_catalog.text), 'PUBLIC')), '; ') \
        FROM others LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) others.grantee \
        WHERE NOT coalesce(r.rolsuper, false)) AS cure FROM place";

impl Store {
    /// Brings the schema up to date, all of it or nothing; expands only. A schema that is up to date takes
    /// no right to change it.
    ///
    /// # Errors
    /// [`StoreError::Schema`] when the schema is newer than this program, or there is none to make it
    /// in; [`StoreError::OpenSchema`] where others may create in it.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        refuse_open_schema(self.db()).await?;
        let tx = self.db().begin_with_options(immediate()).await?;
        if tx.get_database_backend() == DbBackend::Postgres {
            tx.execute_unprepared(ONE_AT_A_TIME).await?;
        }
        if missing(&tx).await? > 0 {
            Migrator::up(&tx, None).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Refuses a schema that this program does not know, newer or older, or in which others may create.
    /// Only reads.
    ///
    /// # Errors
    /// [`StoreError::Schema`] and [`StoreError::OpenSchema`] name what was found and what to do.
    pub async fn check_schema(&self) -> Result<(), StoreError> {
        refuse_open_schema(self.db()).await?;
        match missing(self.db()).await? {
            0 => Ok(()),
            count => Err(StoreError::Schema {
                found: format!("lacks {count} migration(s)"),
                remedy: "run rekey init, or rekey migrate",
            }),
        }
    }
}

/// # Errors
/// [`StoreError::OpenSchema`] says which statements its owner has to run. In a SQLite file nobody can
/// make a function, and a trigger there fires on its own table only.
async fn refuse_open_schema(db: &impl ConnectionTrait) -> Result<(), StoreError> {
    if db.get_database_backend() != DbBackend::Postgres {
        return Ok(());
    }
    let open_to = Statement::from_string(DbBackend::Postgres, OPEN_TO);
    let Some(place) = db.query_one_raw(open_to).await? else {
        return Err(StoreError::Schema {
            found: "is nowhere: of the schemas in the role's search_path none exists".to_owned(),
            remedy: "make one, or name it in the store's URL: ?options=-csearch_path%3Drekey",
        });
    };
    let schema = place.try_get("", "schema")?;
    match place.try_get("", "cure")? {
        Some(cure) => Err(StoreError::OpenSchema { schema, cure }),
        None => Ok(()),
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
            "SELECT pg_catalog.to_regclass(pg_catalog.concat(\
             pg_catalog.quote_ident(pg_catalog.current_schema()), '.seaql_migrations')) IS NOT NULL AS there"
        }
        _ => "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'seaql_migrations') AS there",
    };
    let found = db.query_one_raw(statement(is_there)).await?;
    let found = found.expect("a SELECT without FROM gives one row");
    if !found.try_get::<bool>("", "there")? {
        return Ok(Vec::new());
    }
    let select = statement("SELECT version FROM seaql_migrations ORDER BY version");
    let rows = db.query_all_raw(select).await?;
    let names = rows.iter().map(|row| row.try_get("", "version"));
    Ok(names.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::test_store::{Kind, TestStore};

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

    #[tokio::test]
    async fn a_schema_in_which_others_may_create_is_refused_with_the_statements_that_close_it() {
        let store = TestStore::new(Kind::Postgres).await;
        let role = format!("rekey_test_{:016x}", rand::random::<u64>());
        let open = format!(
            "CREATE ROLE {role}; GRANT CREATE ON SCHEMA public TO {role}, PUBLIC, CURRENT_USER"
        );
        store.db().execute_unprepared(&open).await.unwrap();
        let refused = store.check_schema().await.unwrap_err();
        assert!(!refused.is_retryable());
        assert!(store.migrate().await.is_err());
        let StoreError::OpenSchema { schema, cure } = refused else {
            panic!("{refused}")
        };
        assert_eq!(schema, "public");
        store.db().execute_unprepared(&cure).await.unwrap();
        store.check_schema().await.unwrap();
        // Who owns the tables may make more of them.
        let own = format!(
            "ALTER TABLE seaql_migrations OWNER TO {role}; GRANT CREATE ON SCHEMA public TO {role}"
        );
        store.db().execute_unprepared(&own).await.unwrap();
        store.check_schema().await.unwrap();
        let drop = format!("DROP OWNED BY {role}; DROP ROLE {role}");
        store.db().execute_unprepared(&drop).await.unwrap();
    }

    #[tokio::test]
    async fn a_store_without_a_schema_is_refused_before_anything_is_made() {
        let database = rekey_testkit::TestDatabase::create().await;
        let url = format!("{}?options=-csearch_path%3Dnowhere", database.url());
        let store = Store::connect(&url).await.unwrap();
        for refused in [store.migrate().await, store.check_schema().await] {
            let refused = refused.unwrap_err();
            assert!(refused.to_string().contains("is nowhere"), "{refused}");
        }
    }
}
