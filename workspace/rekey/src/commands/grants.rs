//! `rekey grants`: the rights that each worker needs, and no more.

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
    /// Put before the workers' roles at the databases: rekey_ makes rekey_rotator.
    #[arg(long, default_value = "rekey_", value_name = "PREFIX")]
    role_prefix: String,
}

/// Prints them.
pub async fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let all = grants(&app.services, &app.places, &args.role_prefix).await?;
    if app.output == Output::Json {
        output::object("rekey.grants/v1", json!({ "grants": all }))?;
        return Ok(Exit::Done);
    }
    for one in &all {
        print(one)?;
    }
    Ok(Exit::Done)
}

fn print(grants: &Grants) -> anyhow::Result<()> {
    let name = grants.worker.name();
    output::line(&format!("-- rekey-{name}: on the store"))?;
    for statement in &grants.store {
        output::line(statement)?;
    }
    for source in &grants.sources {
        output::line(&format!("-- rekey-{name}: on the source {}", source.source))?;
        for statement in &source.sql {
            output::line(statement)?;
        }
    }
    if let Some(policy) = &grants.kms {
        output::line(&format!("-- rekey-{name}: in the master key's policy"))?;
        output::line(&serde_json::to_string_pretty(policy)?)?;
    }
    let rabbitmq = &grants.rabbitmq;
    output::line(&format!("-- rekey-{name}: at RabbitMQ"))?;
    output::line(&format!(
        "rabbitmqctl set_permissions {} '{}' '{}' '{}'\n",
        grants.role, rabbitmq.configure, rabbitmq.write, rabbitmq.read
    ))?;
    Ok(())
}
