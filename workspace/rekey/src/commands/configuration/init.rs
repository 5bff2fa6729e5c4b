//! `rekey init`: makes what is missing of a deployment, and says what it made.

use rekey_operations::Change;
use serde_json::json;

use crate::{
    app::App,
    exit::Exit,
    output::{self, Output},
};

/// Makes keyrings and first keys and applies the configuration; the master key is there by now.
pub async fn run(app: &App, master_key: Option<Change>) -> anyhow::Result<Exit> {
    let (services, desired) = (&app.services, &app.desired);
    let mut made: Vec<_> = master_key.into_iter().collect();
    made.extend(rekey_operations::init(services, desired, &app.principal).await?);
    made.extend(rekey_operations::apply(services, desired, &app.principal).await?);
    print(&made, app.output)?;
    output::done(&format!("store: {}", services.store.place()));
    output::done("initialised; next: rekey up, or the workers' programs, and rekey keys list");
    Ok(Exit::Done)
}

fn print(made: &[Change], output: Output) -> std::io::Result<()> {
    if output == Output::Json {
        return output::object("rekey.init/v1", json!({ "made": made }));
    }
    if made.is_empty() {
        return output::line("all of it was there: nothing was made");
    }
    let rows = made
        .iter()
        .map(|made| [made.subject.clone(), made.change.clone()]);
    output::table(["MADE", "HOW"], rows.collect())
}
