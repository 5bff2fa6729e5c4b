//! `rekey encrypt` and `rekey decrypt`: one value from stdin, never from the command line, or one a line.

use std::io::{IsTerminal, stdout};

use rekey_domain::{BindError, BindValue, ColumnName, ColumnSpec};
use rekey_envelope::{Ciphertext, encode_base64};
use rekey_operations::{Action, authorise, protected_column};
use serde_json::json;

use crate::commands::{
    input,
    keys::{
        ndjson::{self, Work},
        written::{bind_value, ciphertext},
    },
};
use crate::{
    app::App,
    exit::{Exit, UsageError},
    output::{self, Output},
};

const LIMIT: u64 = 64 << 20;

/// What both take.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The protected column, such as clinic.patients.ssn.
    #[arg(
        long,
        value_name = "SOURCE.TABLE.COLUMN",
        required_unless_present = "ndjson"
    )]
    column: Option<ColumnName>,
    /// What the column's bind says of the row, once for each part, in order, as its column's type is
    /// written; int:, text:, uuid: and hex: before it say what it is.
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true, value_parser = bind_value)]
    bind: Vec<BindValue>,
    /// Many values: a JSON object with column, bind and value a line; a result or an error a line comes
    /// back.
    #[arg(long, conflicts_with_all = ["column", "bind"])]
    ndjson: bool,
}

/// Encrypts stdin, every byte of it.
pub async fn encrypt(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let Some(column) = args.one(app, ColumnSpec::fit_bind).await? else {
        return ndjson::run(Work::Encrypt, app).await;
    };
    let value = input::stdin("the value to encrypt", LIMIT)?;
    let client = &app.services.client;
    let sealed = client.encrypt(&column, &args.bind, &value).await?;
    client.flush().await?;
    let text = encode_base64(&sealed);
    match app.output {
        Output::Json => {
            let key_id = Ciphertext::parse(&sealed)
                .ok()
                .map(|ciphertext| ciphertext.key_id());
            let object = json!({ "column": column, "key_id": key_id, "ciphertext": text });
            output::object("rekey.ciphertext/v1", object)?;
        }
        Output::Table => output::line(&text)?,
    }
    Ok(Exit::Done)
}

/// Decrypts stdin, and writes the value's bytes and nothing else.
pub async fn decrypt(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let Some(column) = args.one(app, ColumnSpec::fit_bind_to_open).await? else {
        return ndjson::run(Work::Decrypt, app).await;
    };
    let sealed = ciphertext(input::stdin("the ciphertext", LIMIT)?, "stdin")?;
    let client = &app.services.client;
    let value = client.decrypt(&column, &args.bind, &sealed).await?;
    client.flush().await?;
    match app.output {
        Output::Json => {
            let object = match std::str::from_utf8(&value) {
                Ok(text) => json!({ "column": column, "value": text }),
                Err(_) => json!({ "column": column, "value_base64": encode_base64(&value) }),
            };
            output::object("rekey.value/v1", object)?;
        }
        Output::Table => {
            output::bytes(&value)?;
            if stdout().is_terminal() {
                output::line("")?;
            }
        }
    }
    Ok(Exit::Done)
}

/// Reads bind values by the types of a column's.
type Fit = fn(&ColumnSpec, &[BindValue]) -> Result<Vec<BindValue>, BindError>;

impl Args {
    /// The column of the single value; `None` if there are many values. Checks before anything is typed that the column
    /// exists and that the bind values fit.
    async fn one(&self, app: &App, fit: Fit) -> anyhow::Result<Option<String>> {
        authorise(&app.principal, Action::UseKeys)?;
        let Some(column) = &self.column else {
            return Ok(None);
        };
        let known = protected_column(&app.services, column, &app.principal).await?;
        let column = column.to_string();
        let fitted = fit(&known, &self.bind);
        fitted.map_err(|error| {
            let next = match &known.bind_columns[..] {
                [] => "leave --bind out".to_owned(),
                names => format!("say --bind once for each of {}", names.join(", ")),
            };
            UsageError(format!("{error}; {next}"))
        })?;
        if known.bind_types.is_none() && !self.bind.is_empty() {
            output::note(&format!(
                "the store does not know the types that {column} is bound to, so --bind is taken as it is; rekey apply notes them"
            ));
        }
        Ok(Some(column))
    }
}
