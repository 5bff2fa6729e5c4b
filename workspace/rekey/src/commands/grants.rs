//! `rekey grants`: the rights that each worker and the command line need, and no more.

use std::collections::HashSet;

use rekey_deployment::{RabbitMqRights, Rights, rights, rights_together};
use serde_json::json;

use crate::{
    app::App,
    exit::Exit,
    output::{self, Output},
};

/// What `grants` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Put before the roles at the databases: rekey_ makes rekey_rotator.
    #[arg(long, default_value = "rekey_", value_name = "PREFIX")]
    role_prefix: String,
    /// The virtual host at RabbitMQ. Default: that of broker.url, or /.
    #[arg(long, value_name = "NAME")]
    vhost: Option<String>,
    /// For rekey up: one role, rekey_up, has what all workers need.
    #[arg(long)]
    up: bool,
}

/// Prints them.
pub async fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let vhost = args.vhost.clone().or_else(|| app.places.vhost());
    let vhost = vhost.as_deref().unwrap_or("/");
    let prefix = &args.role_prefix;
    let all = match args.up {
        true => rights_together(&app.services, &app.places, prefix, vhost).await?,
        false => rights(&app.services, &app.places, prefix, vhost).await?,
    };
    if app.output == Output::Json {
        output::object("rekey.grants/v1", json!({ "grants": all }))?;
        return Ok(Exit::Done);
    }
    let has_broker = args.vhost.is_some() || app.places.vhost().is_some();
    for line in lines(&all, has_broker)? {
        // Not escaped, whatever names are in it, as other programs read it.
        output::bytes(format!("{line}\n").as_bytes())?;
    }
    Ok(Exit::Done)
}

/// Part by part, each in the language of its system, so that it can be pasted there.
fn lines(all: &[Rights], has_broker: bool) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut part = |head: String, mut body: Vec<String>| {
        // If several workers share a role, each right is printed once.
        let mut said = HashSet::new();
        body.retain(|line| said.insert(line.clone()));
        if !body.is_empty() {
            lines.push(head);
            lines.extend(body);
            lines.push(String::new());
        }
    };
    let store = all.iter().flat_map(|one| one.store.iter().cloned());
    part("-- On the store, as its owner:".to_owned(), store.collect());
    let revokes = all.iter().flat_map(|one| one.store_revokes.iter().cloned());
    let older = "-- On the store, as its owner, once no program of the version before runs:";
    part(older.to_owned(), revokes.collect());
    let mut sources: Vec<&str> = Vec::new();
    for source in all.iter().flat_map(|one| &one.sources) {
        if !sources.contains(&source.source.as_str()) {
            sources.push(&source.source);
        }
    }
    for name in sources {
        let of_source = all.iter().flat_map(|one| &one.sources);
        let of_source = of_source.filter(|source| source.source == name);
        let sql = of_source.clone().flat_map(|source| source.sql.iter());
        let owner = format!("-- On the source {name}, as the owner of its tables:");
        part(owner, sql.cloned().collect());
        let more = of_source.flat_map(|source| source.as_administrator.iter());
        let administrator = format!("-- On the source {name}, as an administrator of its server:");
        part(administrator, more.cloned().collect());
    }
    let rabbitmq = match has_broker {
        true => permissions(all),
        false => Vec::new(),
    };
    part("# At RabbitMQ, in a shell:".to_owned(), rabbitmq);
    let together = |one: &Rights| all.iter().filter(|other| other.role == one.role).count() > 1;
    for one in all {
        let Some(policy) = &one.kms else { continue };
        let whose = match together(one) {
            true => &one.role,
            false => one.worker.name(),
        };
        let head = format!("# At AWS, as a policy of the role of {whose}:");
        part(head, vec![serde_json::to_string_pretty(policy)?]);
    }
    for (head, body) in at_destinations(all)? {
        part(head, body);
    }
    Ok(lines)
}

/// Each once: the verifier and the command line need the same.
fn at_destinations(all: &[Rights]) -> anyhow::Result<Vec<(String, Vec<String>)>> {
    let mut parts = Vec::new();
    let of_one = all.iter().map(|one| &one.destinations);
    for one in of_one.max_by_key(|some| some.len()).into_iter().flatten() {
        let name = &one.destination;
        let policies = [
            ("of the roles of backup-verifier and operator", &one.policy),
            (
                "of its bucket, so that nobody writes over",
                &one.bucket_policy,
            ),
        ];
        for (whose, policy) in policies {
            let Some(policy) = policy else { continue };
            let head = format!("# At AWS, for destination {name}, as a policy {whose}:");
            parts.push((head, vec![serde_json::to_string_pretty(policy)?]));
        }
        if let Some(command) = &one.command {
            let head = format!(
                "# At Azure, for destination {name}, as AZURE_STORAGE_SAS_TOKEN of backup-verifier and operator, what this prints:"
            );
            parts.push((head, vec![command.clone()]));
        }
    }
    Ok(parts)
}

/// One line for each role, as each of these commands replaces what earlier ones gave.
fn permissions(all: &[Rights]) -> Vec<String> {
    let mut roles: Vec<_> = all.iter().map(|one| (&one.role, &one.rabbitmq)).collect();
    roles.dedup_by_key(|(role, _)| *role);
    let line = |(role, rights): (&String, &RabbitMqRights)| {
        let RabbitMqRights {
            vhost,
            configure,
            write,
            read,
        } = rights;
        let quoted = [vhost, role, configure, write, read].map(|word| quote(word));
        let words = quoted.join(" ");
        format!("rabbitmqctl set_permissions -p {words}")
    };
    roles.into_iter().map(line).collect()
}

/// A word as a shell takes it, whatever is in it.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use rekey_deployment::SourceRights;
    use rekey_domain::Role;

    use super::*;

    fn uses_keys(who: Role) -> bool {
        match who {
            Role::Worker(worker) => worker.uses_keys(),
            Role::Operator => true,
        }
    }

    fn grants_of(who: Role) -> Rights {
        let role = who.role("re'key_");
        Rights {
            worker: who,
            store: vec![format!("GRANT SELECT ON \"key\" TO \"{role}\";")],
            store_revokes: vec![format!("REVOKE DELETE ON \"key\" FROM \"{role}\";")],
            sources: vec![SourceRights {
                source: "clinic".to_owned(),
                sql: vec![format!("GRANT SELECT (ssn) ON patients TO \"{role}\";")],
                as_administrator: Vec::new(),
            }],
            kms: uses_keys(who).then(|| json!({ "Sid": role })),
            destinations: Vec::new(),
            rabbitmq: RabbitMqRights {
                vhost: "clinic".to_owned(),
                configure: "^$".to_owned(),
                write: "^$".to_owned(),
                read: "^$".to_owned(),
            },
            role,
        }
    }

    #[test]
    fn each_part_is_of_one_kind_and_can_be_pasted() {
        let lines = lines(&Role::ALL.map(grants_of), true).unwrap();
        let parts: Vec<_> = lines.split(String::is_empty).collect();
        let [store, revokes, clinic, rabbitmq, ref kms @ .., rest] = parts[..] else {
            panic!("{lines:#?}")
        };
        assert!(rest.is_empty());
        for sql in [store, revokes, clinic] {
            assert_eq!(sql.len(), 1 + Role::ALL.len());
            assert!(sql[0].starts_with("-- "), "{sql:?}");
            assert!(sql[1..].iter().all(|line| line.ends_with(';')), "{sql:?}");
        }
        assert!(rabbitmq[0].starts_with("# "), "{rabbitmq:?}");
        let scheduler =
            r"rabbitmqctl set_permissions -p 'clinic' 're'\''key_scheduler' '^$' '^$' '^$'";
        assert_eq!(rabbitmq[1], scheduler);
        assert_eq!(kms.len(), 4);
        for policy in kms {
            assert!(policy[0].starts_with("# "), "{policy:?}");
            serde_json::from_str::<serde_json::Value>(&policy[1..].join("\n")).unwrap();
        }
    }

    #[test]
    fn where_there_is_no_broker_nothing_is_said_of_one() {
        let lines = lines(&Role::ALL.map(grants_of), false).unwrap();
        assert!(!lines.concat().contains("rabbitmq"), "{lines:#?}");
    }

    #[test]
    fn one_role_of_all_workers_has_what_each_needs_and_each_line_once() {
        let together = Role::ALL.map(|who| {
            let mut grants = grants_of(who);
            if let Role::Worker(_) = who {
                grants.role = "up".to_owned();
                grants.store = vec!["GRANT SELECT ON \"key\" TO up;".to_owned()];
                grants.rabbitmq.read = "^scheduler$|^rotator$".to_owned();
            }
            grants
        });
        let lines = lines(&together, true).unwrap();
        let of_store = lines.iter().filter(|line| line.ends_with("TO up;"));
        assert_eq!(of_store.count(), 1, "{lines:#?}");
        let read = "'up' '^$' '^$' '^scheduler$|^rotator$'";
        let of_broker: Vec<_> = lines.iter().filter(|line| line.contains("'up'")).collect();
        assert!(
            of_broker.len() == 1 && of_broker[0].ends_with(read),
            "{of_broker:?}"
        );
    }
}
