//! `rekey encrypt` and `rekey decrypt`: one value from stdin, never from the command line, or one a line.

use std::io::{IsTerminal, stdout};

use rekey_domain::{BindValue, ColumnName};
use rekey_envelope::{Ciphertext, Zeroizing, decode_base64, encode_base64};
use rekey_operations::{Action, authorise, protected_column};
use serde_json::json;
use uuid::Uuid;

use crate::commands::{
    input,
    keys::ndjson::{self, Work},
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
    let Some(column) = args.one(app).await? else {
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
    let Some(column) = args.one(app).await? else {
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

impl Args {
    /// The column of the single value; `None` if there are many values. Checks before anything is typed that the column
    /// exists and that the number of bind values fits.
    async fn one(&self, app: &App) -> anyhow::Result<Option<String>> {
        authorise(&app.principal, Action::UseKeys)?;
        let Some(column) = &self.column else {
            return Ok(None);
        };
        let known = protected_column(&app.services, column, &app.principal).await?;
        let column = column.to_string();
        let fitted = known.fit_bind(&self.bind);
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

/// Ciphertext begins with byte 1, which base64 does not contain, so the input shows whether it is bytes or base64.
pub fn ciphertext(bytes: Zeroizing<Vec<u8>>, what: &str) -> Result<Vec<u8>, UsageError> {
    if Ciphertext::parse(&bytes).is_ok() {
        return Ok(bytes.to_vec());
    }
    let text = std::str::from_utf8(&bytes).ok().map(str::trim);
    let decoded = text.and_then(|text| decode_base64(text).ok());
    decoded.filter(|bytes| Ciphertext::parse(bytes).is_ok()).ok_or_else(|| {
        let found = bytes.len();
        UsageError(format!(
            "{what} holds no ciphertext: expected its bytes or standard base64 of them, found {found} bytes of something else; perhaps the value was never encrypted"
        ))
    })
}

/// A value that a column is bound to, as a person writes it on the command line. Without a type before
/// it, it is a text that the column's type reads.
pub fn bind_value(text: &str) -> Result<BindValue, String> {
    let forced = text.split_once(':');
    match forced {
        Some(("text", rest)) => Ok(BindValue::Text(rest.to_owned())),
        Some(("int", rest)) => {
            integer(rest).ok_or_else(|| "expected int: and a whole number".to_owned())
        }
        Some(("uuid", rest)) => uuid(rest).ok_or_else(|| {
            "expected uuid: and a UUID, such as uuid:0198c7a0-0000-7000-8000-000000000000"
                .to_owned()
        }),
        Some(("hex", rest)) => {
            let bytes = hex::decode(rest).ok().map(BindValue::Bytes);
            bytes.ok_or_else(|| "expected hex: and an even number of hex digits".to_owned())
        }
        _ => Ok(BindValue::Text(text.to_owned())),
    }
}

fn integer(text: &str) -> Option<BindValue> {
    text.parse().ok().map(BindValue::Integer)
}

/// A UUID in any of its forms.
pub fn uuid(text: &str) -> Option<BindValue> {
    let uuid = Uuid::parse_str(text).ok()?;
    Some(BindValue::Uuid(uuid.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bind_value_says_its_type() {
        let uuid = "0198c7a0-0000-7000-8000-00000000000a";
        let of_uuid = BindValue::Uuid(Uuid::parse_str(uuid).unwrap().into_bytes());
        for (text, expected) in [
            ("42", "42".into()),
            ("007", "007".into()),
            ("int:7", BindValue::Integer(7)),
            ("int:-007", BindValue::Integer(-7)),
            ("text:42", "42".into()),
            ("urn:x", "urn:x".into()),
            ("hex:00ff", BindValue::Bytes(vec![0, 255])),
            (&format!("uuid:{uuid}"), of_uuid),
            (uuid, uuid.into()),
        ] {
            assert_eq!(bind_value(text), Ok(expected), "{text}");
        }
        for bad in ["hex:0", "hex:zz", "uuid:1", "int:x"] {
            assert!(bind_value(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ciphertext_is_read_in_both_forms() {
        let sealed: Vec<u8> = std::iter::once(1).chain([7; 40]).collect();
        let base64 = format!("{}\n", encode_base64(&sealed));
        assert_eq!(
            ciphertext(Zeroizing::new(sealed.clone()), "stdin").unwrap(),
            sealed
        );
        assert_eq!(
            ciphertext(Zeroizing::new(base64.into_bytes()), "stdin").unwrap(),
            sealed
        );
        assert!(ciphertext(Zeroizing::new(b"123-45-6789".to_vec()), "stdin").is_err());
        assert!(ciphertext(Zeroizing::new(Vec::new()), "stdin").is_err());
    }
}
