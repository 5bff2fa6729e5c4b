//! `rekey columns`: the protected columns, whether they are as declared, and releasing one.

use rekey_domain::{ColumnName, Need};
use rekey_operations::{
    ColumnOpening, ColumnView, ColumnsCheck, Opening, check_columns, column_views, release_column,
    rename_column,
};
use serde_json::json;

use crate::commands::rotations::plan;
use crate::{
    app::App,
    exit::Exit,
    output::{self, Output},
};

/// What can be asked of protected columns.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Every protected column.
    List,
    /// Look for what is missing, unknown or not declared; exit code 3 if a person is needed.
    Check(Check),
    /// Follow a table or column that was renamed, or whose type changed; what its values are bound to stays.
    Rename(Rename),
    /// Stop protecting a column in which no ciphertext is left; a census decides.
    Release(Release),
}

/// What `columns check` takes.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// The columns, such as clinic.patients.ssn. None: all of them, and every other column of their
    /// sources for ciphertext.
    #[arg(value_name = "SOURCE.TABLE.COLUMN")]
    columns: Vec<ColumnName>,
    /// Count every value of the protected columns, not only some of each.
    #[arg(long)]
    count: bool,
}

/// What `columns rename` takes.
#[derive(Debug, clap::Args)]
pub struct Rename {
    /// What it was called, such as clinic.patients.ssn.
    #[arg(value_name = "OLD")]
    old: ColumnName,
    /// What it is called now, as rekey.toml has it; the same name where only its type or the names of
    /// its bind columns changed.
    #[arg(value_name = "NEW")]
    new: ColumnName,
}

/// What `columns release` takes.
#[derive(Debug, clap::Args)]
pub struct Release {
    /// The column, such as clinic.patients.ssn.
    #[arg(value_name = "SOURCE.TABLE.COLUMN")]
    column: ColumnName,
    /// The column or its table was dropped, so that there is nothing to count.
    #[arg(long)]
    gone: bool,
}

/// Does what the command says.
pub async fn run(command: &Command, app: &App) -> anyhow::Result<Exit> {
    match command {
        Command::List => list(app).await,
        Command::Check(args) => check(args, app).await,
        Command::Rename(args) => rename(args, app).await,
        Command::Release(args) => release(args, app).await,
    }
}

async fn list(app: &App) -> anyhow::Result<Exit> {
    let columns = column_views(&app.services, &app.desired, &app.principal).await?;
    match app.output {
        Output::Json => output::object("rekey.columns/v1", json!({ "columns": columns }))?,
        Output::Table => {
            let rows = columns.iter().map(row).collect();
            let head = [
                "COLUMN",
                "KEYRING",
                "BIND",
                "STANDS AS",
                "RELATION",
                "DECLARED",
            ];
            output::table(head, rows)?;
        }
    }
    Ok(Exit::Done)
}

fn row(column: &ColumnView) -> [String; 6] {
    let bind = match serde_json::to_value(&column.bind) {
        Ok(serde_json::Value::String(word)) => word,
        bind => bind.map(|list| list.to_string()).unwrap_or_default(),
    };
    let encoding = match column.encoding {
        rekey_domain::TextEncoding::Binary => "bytes",
        rekey_domain::TextEncoding::Base64 => "base64",
    };
    [
        column.column.to_string(),
        column.keyring.to_string(),
        bind,
        encoding.to_owned(),
        column.relation.clone(),
        if column.declared { "yes" } else { "no" }.to_owned(),
    ]
}

async fn check(args: &Check, app: &App) -> anyhow::Result<Exit> {
    let how = plan::measure(args.count);
    let checked = check_columns(
        &app.services,
        &app.desired,
        &args.columns,
        how,
        &app.principal,
    )
    .await?;
    match app.output {
        Output::Json => output::object("rekey.columns/v1", serde_json::to_value(&checked)?)?,
        Output::Table => print(&checked)?,
    }
    let mut findings = checked.findings.iter();
    let complete = findings.all(|finding| finding.need != Need::Time);
    Ok(plan::exit(&checked.findings, complete))
}

fn print(checked: &ColumnsCheck) -> std::io::Result<()> {
    plan::print_findings(&checked.findings, "nothing was found")?;
    output::line("")?;
    let rows = checked.opened.iter().map(opening_row);
    output::table(["COLUMN", "TRIED", "OPENED", "NOT OPENED"], rows.collect())?;
    output::line("")?;
    output::line(&format!(
        "{}; {} table(s) looked at for ciphertext in other columns",
        looked_at(checked),
        checked.other_tables
    ))
}

/// How many columns were looked at, and how.
fn looked_at(checked: &ColumnsCheck) -> String {
    let (looked_at, all) = (checked.looked_at, checked.columns.len());
    let by = match checked.values {
        "counted" => "all of their values were counted",
        _ => "some of their values were looked at",
    };
    if looked_at == all {
        return format!("{all} protected column(s): {by}");
    }
    match looked_at {
        0 => format!("{all} protected column(s): no value of them was looked at"),
        some => format!("{some} of {all} protected column(s): {by}; no value of the others was"),
    }
}

fn opening_row(of: &ColumnOpening) -> [String; 4] {
    let Opening { tried, opened, .. } = &of.opening;
    let not = plan::not_opened(&of.opening);
    [
        of.column.to_string(),
        tried.to_string(),
        opened.to_string(),
        not,
    ]
}

async fn rename(args: &Rename, app: &App) -> anyhow::Result<Exit> {
    let (services, desired) = (&app.services, &app.desired);
    let renamed = rename_column(services, desired, &args.old, &args.new, &app.principal).await?;
    match app.output {
        Output::Json => output::object("rekey.column-rename/v1", serde_json::to_value(&renamed)?)?,
        Output::Table => {
            output::line(&format!(
                "renamed {} to {}: {} of {} value(s) looked at open, bound to {} as before",
                renamed.from, renamed.to, renamed.opened, renamed.looked_at, renamed.column_id
            ))?;
            for along in &renamed.along {
                output::line(&format!("with its table went {along}"))?;
            }
        }
    }
    if !renamed.not_looked_at.is_empty() {
        output::note(&format!(
            "not looked at, as this role may not read them: {}. If one of them holds values of {}, they are nobody's now; rekey columns check, as a role that may, finds them",
            renamed.not_looked_at.join(", "),
            renamed.from
        ));
    }
    if !renamed.declared {
        output::note(&format!(
            "rekey.toml does not declare {}: say so there before the next rekey apply",
            renamed.to
        ));
    }
    Ok(Exit::Done)
}

async fn release(args: &Release, app: &App) -> anyhow::Result<Exit> {
    let (services, desired) = (&app.services, &app.desired);
    let released = release_column(services, desired, &args.column, args.gone, &app.principal);
    let released = released.await?;
    match app.output {
        Output::Json => {
            output::object("rekey.column-release/v1", serde_json::to_value(&released)?)?
        }
        Output::Table => output::line(&match released.values {
            Some(values) => format!(
                "released {}: a census counted {values} value(s), none of them ciphertext",
                args.column
            ),
            None => format!("released {}, which is gone", args.column),
        })?,
    }
    if released.still_declared {
        output::note(&format!(
            "rekey.toml still declares {}: take it out, or the next rekey apply protects it anew",
            args.column
        ));
    }
    Ok(Exit::Done)
}
