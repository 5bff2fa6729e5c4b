//! The rights that a source's role takes, as SQL, by column.

use std::collections::BTreeSet;

use rekey_domain::Part;

use super::names::{Name, quote};

/// The statements that let `role` rotate the `protected` columns of a PostgreSQL table, partition
/// by partition: it reads those, the columns in `others` (primary key and bind columns) and the
/// place of each row, and writes the protected columns.
pub fn grants(role: &str, parts: &[Part], protected: &[String], others: &[String]) -> Vec<String> {
    let role = quote(role);
    let list = |names: Vec<&String>| {
        let mut seen = BTreeSet::new();
        let once = names.into_iter().filter(|name| seen.insert(*name));
        once.map(|name| quote(name)).collect::<Vec<_>>().join(", ")
    };
    let read = list(others.iter().chain(protected).collect());
    let written = list(protected.iter().collect());
    let mut statements = Vec::new();
    let names = parts.iter().filter_map(|part| Name::parse(&part.id.name));
    let schemas: BTreeSet<String> = names.filter_map(|name| name.schema).collect();
    for schema in schemas {
        statements.push(format!(
            "GRANT USAGE ON SCHEMA {} TO {role}",
            quote(&schema)
        ));
    }
    for part in parts {
        let table = &part.id.name;
        statements.push(format!(
            "GRANT SELECT (ctid, {read}), UPDATE ({written}) ON {table} TO {role}"
        ));
    }
    statements
}

#[cfg(test)]
mod tests {
    use rekey_domain::PartId;

    use super::*;

    #[test]
    fn each_part_is_granted_by_column_and_each_name_quoted() {
        let part = |name: &str| Part {
            id: PartId {
                name: name.to_owned(),
                form: "1".to_owned(),
            },
            end: None,
            rows_per_block: 1,
        };
        let parts = [part(r#""public"."a""#), part(r#""public"."B""#)];
        let names = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        let granted = grants(
            "re-key",
            &parts,
            &names(&["ssn", "No te"]),
            &names(&["id", "ssn"]),
        );
        assert_eq!(
            granted,
            [
                r#"GRANT USAGE ON SCHEMA "public" TO "re-key""#,
                r#"GRANT SELECT (ctid, "id", "ssn", "No te"), UPDATE ("ssn", "No te") ON "public"."a" TO "re-key""#,
                r#"GRANT SELECT (ctid, "id", "ssn", "No te"), UPDATE ("ssn", "No te") ON "public"."B" TO "re-key""#,
            ]
        );
    }
}
