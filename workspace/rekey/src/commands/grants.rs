//! `rekey grants`: the rights that each worker and the command line need, and no more.

use rekey_operations::{Grants, grants};
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
}

/// Prints them.
pub async fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let vhost = args.vhost.clone().or_else(|| app.places.vhost());
    let vhost = vhost.as_deref().unwrap_or("/");
    let all = grants(&app.services, &app.places, &args.role_prefix, vhost).await?;
    if app.output == Output::Json {
        output::object("rekey.grants/v1", json!({ "grants": all }))?;
        return Ok(Exit::Done);
    }
    for line in lines(&all)? {
        output::line(&line)?;
    }
    Ok(Exit::Done)
}

/// By the kind of system, each part in its language, so that it can be pasted there.
fn lines(all: &[Grants]) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut part = |head: String, body: Vec<String>| {
        if !body.is_empty() {
            lines.push(head);
            lines.extend(body);
            lines.push(String::new());
        }
    };
    let store = all.iter().flat_map(|one| one.store.iter().cloned());
    part("-- On the store, as its owner:".to_owned(), store.collect());
    let revokes = all.iter().flat_map(|one| one.store_revokes.iter().cloned());
    let head = "-- On the store, as its owner, once no program of the version before runs:";
    part(head.to_owned(), revokes.collect());
    let mut sources: Vec<&str> = Vec::new();
    for source in all.iter().flat_map(|one| &one.sources) {
        if !sources.contains(&source.source.as_str()) {
            sources.push(&source.source);
        }
    }
    for name in sources {
        let of_source = all.iter().flat_map(|one| &one.sources);
        let of_source = of_source.filter(|source| source.source == name);
        let sql = of_source.flat_map(|source| source.sql.iter().cloned());
        let head = format!("-- On the source {name}, as the owner of its tables:");
        part(head, sql.collect());
    }
    let rabbitmq = all.iter().map(permissions).collect();
    part("# At RabbitMQ, in a shell:".to_owned(), rabbitmq);
    for one in all {
        let Some(policy) = &one.kms else { continue };
        let head = format!(
            "# At AWS, as the policy of the role of {}:",
            one.worker.name()
        );
        part(head, vec![serde_json::to_string_pretty(policy)?]);
    }
    Ok(lines)
}

fn permissions(grants: &Grants) -> String {
    let rabbitmq = &grants.rabbitmq;
    let words = [
        &rabbitmq.vhost,
        &grants.role,
        &rabbitmq.configure,
        &rabbitmq.write,
        &rabbitmq.read,
    ];
    let [vhost, role, configure, write, read] = words.map(|word| quote(word));
    format!("rabbitmqctl set_permissions -p {vhost} {role} {configure} {write} {read}")
}

/// A word as a shell takes it, whatever is in it.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use rekey_operations::{Grantee, RabbitMqGrant, SourceGrants, Worker};

    use super::*;

    fn grants_of(who: Grantee) -> Grants {
        let role = who.role("re'key_");
        Grants {
            worker: who,
            store: vec![format!("GRANT SELECT ON \"key\" TO \"{role}\";")],
            store_revokes: vec![format!("REVOKE DELETE ON \"key\" FROM \"{role}\";")],
            sources: vec![SourceGrants {
                source: "clinic".to_owned(),
                sql: vec![format!("GRANT SELECT (ssn) ON patients TO \"{role}\";")],
            }],
            kms: (who != Grantee::Worker(Worker::Scheduler)).then(|| json!({ "Sid": role })),
            rabbitmq: RabbitMqGrant {
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
        let lines = lines(&Grantee::ALL.map(grants_of)).unwrap();
        let parts: Vec<_> = lines.split(String::is_empty).collect();
        let [store, revokes, clinic, rabbitmq, ref kms @ .., rest] = parts[..] else {
            panic!("{lines:#?}")
        };
        assert!(rest.is_empty());
        for sql in [store, revokes, clinic] {
            assert_eq!(sql.len(), 1 + Grantee::ALL.len());
            assert!(sql[0].starts_with("-- "), "{sql:?}");
            assert!(sql[1..].iter().all(|line| line.ends_with(';')), "{sql:?}");
        }
        assert!(rabbitmq[0].starts_with("# "), "{rabbitmq:?}");
        let scheduler =
            r"rabbitmqctl set_permissions -p 'clinic' 're'\''key_scheduler' '^$' '^$' '^$'";
        assert_eq!(rabbitmq[1], scheduler);
        assert_eq!(kms.len(), 3);
        for policy in kms {
            assert!(policy[0].starts_with("# "), "{policy:?}");
            serde_json::from_str::<serde_json::Value>(&policy[1..].join("\n")).unwrap();
        }
    }
}
