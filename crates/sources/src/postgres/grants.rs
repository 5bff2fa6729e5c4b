//! The rights that a source's role takes, as SQL, by column.

use std::collections::BTreeSet;

use super::names::{Name, quote};

/// What lets a role write to tables whose triggers are suppressed; `TO` whom follows.
pub const GRANT_SUPPRESS: &str = "GRANT SET ON PARAMETER session_replication_role TO";

/// The statements that let `role` work with the protected columns of a PostgreSQL table, partition
/// by partition: it reads the columns in `read` and the place of each row, and writes those in
/// `written`. A census reads the protected columns and writes nothing; re-encryption reads the
/// primary key and the bind columns too, and writes the protected ones.
pub fn grants(role: &str, parts: &[String], read: &[String], written: &[String]) -> Vec<String> {
    let role = quote(role);
    let list = |names: Vec<&String>| {
        let mut seen = BTreeSet::new();
        let once = names.into_iter().filter(|name| seen.insert(*name));
        once.map(|name| quote(name)).collect::<Vec<_>>().join(", ")
    };
    let read = list(read.iter().collect());
    let updates = match list(written.iter().collect()) {
        none if none.is_empty() => none,
        columns => format!(", UPDATE ({columns})"),
    };
    let mut statements = Vec::new();
    let names = parts.iter().filter_map(|part| Name::parse(part));
    let schemas: BTreeSet<String> = names.filter_map(|name| name.schema).collect();
    for schema in schemas {
        statements.push(format!(
            "GRANT USAGE ON SCHEMA {} TO {role}",
            quote(&schema)
        ));
    }
    for table in parts {
        statements.push(format!(
            "GRANT SELECT (ctid, {read}){updates} ON {table} TO {role}"
        ));
    }
    statements
}

/// The statement that lets `role` see how far standbys are behind; the server's administrator's.
pub fn grant_of_lag(role: &str) -> String {
    format!("GRANT pg_read_all_stats TO {}", quote(role))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_granted_by_column_and_each_name_quoted() {
        let parts = [r#""public"."a""#, r#""public"."B""#].map(str::to_owned);
        let names = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        let granted = grants(
            "re-key",
            &parts,
            &names(&["id", "ssn", "No te", "id"]),
            &names(&["ssn", "No te"]),
        );
        assert_eq!(
            granted,
            [
                r#"GRANT USAGE ON SCHEMA "public" TO "re-key""#,
                r#"GRANT SELECT (ctid, "id", "ssn", "No te"), UPDATE ("ssn", "No te") ON "public"."a" TO "re-key""#,
                r#"GRANT SELECT (ctid, "id", "ssn", "No te"), UPDATE ("ssn", "No te") ON "public"."B" TO "re-key""#,
            ]
        );
        let counts = grants("re-key", &parts[..1], &names(&["ssn"]), &[]);
        assert_eq!(
            counts[1],
            r#"GRANT SELECT (ctid, "ssn") ON "public"."a" TO "re-key""#
        );
    }
}
