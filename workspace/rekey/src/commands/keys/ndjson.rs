//! `encrypt --ndjson` and `decrypt --ndjson`: a JSON object a line in, a result or an error a line out, in bounded
//! memory.

use std::io::{self, BufRead, ErrorKind, Read, Write};

use anyhow::Context;
use rekey_client::{Client, ClientError, LeaseError};
use rekey_domain::{BindValue, ColumnName};
use rekey_envelope::{AeadError, Ciphertext, Zeroizing, decode_base64, encode_base64};
use rekey_operations::{Action, authorise};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::commands::keys::written::{ciphertext, uuid};
use crate::{app::App, exit::Exit, output};

/// The longest line: what a value of 64 MiB comes to in base64, and then some.
const LONGEST_LINE: u64 = 96 << 20;
/// Lines between two reports of what the keys were used for.
const REPORT_EVERY: u64 = 100_000;

/// What is done with each line.
#[derive(Debug, Clone, Copy)]
pub enum Work {
    Encrypt,
    Decrypt,
}

/// A line of the input.
#[derive(Deserialize)]
struct Line {
    column: String,
    #[serde(default = "no_binds")]
    bind: Value,
    value: Option<String>,
    value_base64: Option<String>,
}

fn no_binds() -> Value {
    json!([])
}

/// Why a line has no result.
struct Failure {
    error: anyhow::Error,
    /// The next line would fail alike.
    ends_all: bool,
}

/// Works through stdin; ends at its end, or at an error that every further line would meet alike.
pub async fn run(work: Work, app: &App) -> anyhow::Result<Exit> {
    authorise(&app.principal, Action::UseKeys)?;
    let client = &app.services.client;
    let mut reader = io::BufReader::with_capacity(1 << 16, io::stdin().lock());
    let mut writer = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let mut buffer = Zeroizing::new(Vec::new());
    let (mut number, mut failed) = (0, 0);
    let mut ended = Ok(());
    while let Some(fits) = next_line(&mut reader, &mut buffer).context("stdin cannot be read")? {
        number += 1;
        let line = if fits {
            Ok(&buffer[..])
        } else {
            Err(too_long())
        };
        let (text, failure) = answer(work, client, number, line).await;
        if let Err(error) = writeln!(writer, "{}", *text) {
            ended = Err(error.into());
            break;
        }
        if let Some(failure) = failure {
            failed += 1;
            if failure.ends_all {
                let told = format!("ended at line {number}; the lines before it were answered");
                ended = Err(failure.error.context(told));
                break;
            }
        }
        if number.is_multiple_of(REPORT_EVERY) {
            client.flush().await?;
        }
        // Answers are flushed when the input pauses, as its writer may wait for them.
        if reader.buffer().is_empty() {
            writer.flush()?;
        }
    }
    let flushed = writer.flush();
    client.flush().await?;
    match ended.and_then(|()| Ok(flushed?)) {
        // A reader that has seen enough (`| head`) is no error.
        Err(error) if is_broken_pipe(&error) => Ok(Exit::Done),
        Err(error) => Err(error),
        Ok(()) if failed == 0 => Ok(Exit::Done),
        Ok(()) => {
            output::note(&format!("{failed} of {number} lines failed; each says why"));
            Ok(Exit::Failed)
        }
    }
}

/// Reads the next line without its end, and says whether it fitted; one that did not is read over.
fn next_line(reader: &mut impl BufRead, buffer: &mut Vec<u8>) -> io::Result<Option<bool>> {
    buffer.clear();
    let read = reader
        .by_ref()
        .take(LONGEST_LINE)
        .read_until(b'\n', buffer)?;
    if read == 0 {
        return Ok(None);
    }
    let whole = buffer.ends_with(b"\n");
    if whole || (read as u64) < LONGEST_LINE {
        return Ok(Some(true));
    }
    buffer.clear();
    reader.skip_until(b'\n')?;
    Ok(Some(false))
}

fn too_long() -> anyhow::Error {
    anyhow::anyhow!("the line is too long: expected at most {LONGEST_LINE} bytes")
}

/// The line of output, and why it holds no result if it holds none.
async fn answer(
    work: Work,
    client: &Client,
    number: u64,
    line: anyhow::Result<&[u8]>,
) -> (Zeroizing<String>, Option<Failure>) {
    let parsed = line.and_then(parse);
    let (place, done) = match parsed {
        Err(error) => (json!({}), Err(error)),
        Ok(said) => {
            let place = json!({ "column": said.column, "bind": said.bind });
            (place, result(work, client, said).await)
        }
    };
    let (result, failure) = match done {
        Ok(result) => (result, None),
        Err(error) => {
            let ends_all = ends_all(&error);
            let told = json!({ "line": number, "error": output::causes(&error) });
            (told, Some(Failure { error, ends_all }))
        }
    };
    let Value::Object(mut object) = place else {
        unreachable!("a place is an object")
    };
    if let Value::Object(result) = result {
        object.extend(result);
    }
    (Zeroizing::new(Value::Object(object).to_string()), failure)
}

/// Says where a line is malformed, and nothing of what it holds.
fn parse(line: &[u8]) -> anyhow::Result<Line> {
    if line.trim_ascii().is_empty() {
        anyhow::bail!("the line is blank: expected an object a line; leave blank lines out");
    }
    serde_json::from_slice(line).map_err(|error| {
        let at = error.column();
        anyhow::anyhow!(
            "expected an object such as {{\"column\": \"clinic.patients.ssn\", \"bind\": [42], \"value\": \"…\"}}, found something else at character {at}"
        )
    })
}

async fn result(work: Work, client: &Client, line: Line) -> anyhow::Result<Value> {
    let column: ColumnName = line.column.parse()?;
    let column = column.to_string();
    let bind = binds_of(&line.bind)?;
    let value = match (line.value, line.value_base64) {
        (Some(text), None) => Zeroizing::new(text.into_bytes()),
        (None, Some(text)) => base64(&Zeroizing::new(text))?,
        _ => anyhow::bail!("expected either value or value_base64"),
    };
    match work {
        Work::Encrypt => {
            let sealed = client.encrypt(&column, &bind, &value).await?;
            let key_id = Ciphertext::parse(&sealed)
                .ok()
                .map(|sealed| sealed.key_id());
            Ok(json!({ "key_id": key_id, "value": encode_base64(&sealed) }))
        }
        Work::Decrypt => {
            let sealed = ciphertext(value, "the value")?;
            let opened = client.decrypt(&column, &bind, &sealed).await?;
            Ok(match std::str::from_utf8(&opened) {
                Ok(text) => json!({ "value": text }),
                Err(_) => json!({ "value_base64": encode_base64(&opened) }),
            })
        }
    }
}

fn base64(text: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let decoded = decode_base64(text).map(Zeroizing::new);
    decoded.map_err(|_| anyhow::anyhow!("value_base64: expected standard base64"))
}

fn binds_of(said: &Value) -> anyhow::Result<Vec<BindValue>> {
    let Value::Array(values) = said else {
        anyhow::bail!(
            "bind: expected a list, of one value too, such as \"bind\": [42], found none"
        );
    };
    values.iter().map(bind_of).collect()
}

/// A JSON value by its own type; a value that JSON has no type for is an object that names the type. The bind column's
/// type decides what it becomes.
fn bind_of(value: &Value) -> anyhow::Result<BindValue> {
    let found = match value {
        Value::String(text) => return Ok(BindValue::Text(text.clone())),
        Value::Number(number) => match number.as_i64() {
            Some(number) => return Ok(BindValue::Integer(number)),
            None => "a number that is not whole, or beyond 64 bits",
        },
        Value::Object(said) => return said_bind(said),
        Value::Null => "null, and NULL binds nothing",
        Value::Bool(_) => "true or false",
        Value::Array(_) => "a list in the list",
    };
    anyhow::bail!("{BINDS}, found {found}")
}

const BINDS: &str = "bind: expected whole numbers, texts in quotes, {\"uuid\": \"…\"} and {\"bytes\": \"…\"} with hex digits";

fn said_bind(said: &Map<String, Value>) -> anyhow::Result<BindValue> {
    let mut said = said.iter();
    let (Some((kind, Value::String(text))), None) = (said.next(), said.next()) else {
        anyhow::bail!("{BINDS}, found another object");
    };
    match kind.as_str() {
        "uuid" => uuid(text).ok_or_else(|| {
            anyhow::anyhow!(
                "bind: uuid is none: expected such as 0198c7a0-0000-7000-8000-000000000000"
            )
        }),
        "bytes" => hex::decode(text).ok().map(BindValue::Bytes).ok_or_else(|| {
            anyhow::anyhow!("bind: bytes are not in hex: expected an even number of hex digits")
        }),
        _ => anyhow::bail!("{BINDS}, found an object of another kind"),
    }
}

/// Whether every further line would fail too, as the error is not about this value.
fn ends_all(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<ClientError>() {
        Some(
            ClientError::NotCiphertext
            | ClientError::Bind(_)
            | ClientError::UnknownKey { .. }
            | ClientError::Aead(AeadError::NotAuthentic)
            | ClientError::Lease(LeaseError::Unknown { .. }),
        )
        | None => false,
        Some(_) => true,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|io| io.kind() == ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use rekey_envelope::associated_data;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn lines_are_read_one_by_one_and_the_last_needs_no_end() {
        let mut reader = io::Cursor::new(b"a\n\nb".to_vec());
        let mut buffer = Vec::new();
        let mut seen = Vec::new();
        while let Some(fits) = next_line(&mut reader, &mut buffer).unwrap() {
            assert!(fits);
            seen.push(String::from_utf8(buffer.clone()).unwrap());
        }
        assert_eq!(seen, ["a\n", "\n", "b"]);
    }

    #[test]
    fn a_line_that_is_too_long_is_read_over_and_the_next_is_whole() {
        let endless = io::repeat(b'x').take(LONGEST_LINE + 100);
        let mut reader = io::BufReader::new(endless.chain(&b"\nnext\n"[..]));
        let mut buffer = Vec::new();
        assert_eq!(next_line(&mut reader, &mut buffer).unwrap(), Some(false));
        assert_eq!(next_line(&mut reader, &mut buffer).unwrap(), Some(true));
        assert_eq!(buffer, b"next\n");
        assert_eq!(next_line(&mut reader, &mut buffer).unwrap(), None);
    }

    #[test]
    fn an_error_quotes_nothing_of_the_line() {
        for bad in [
            r#"{"value": "123-45-6789"}"#,
            "123-45-6789",
            r#"{"column": 123456789}"#,
        ] {
            let error = parse(bad.as_bytes()).err().unwrap().to_string();
            assert!(!error.contains("6789"), "{error}");
        }
    }

    #[test]
    fn a_bind_value_is_of_the_type_that_json_says() {
        let id = "0198c7a0-0000-7000-8000-00000000000a";
        let of_id = Uuid::parse_str(id).unwrap().into_bytes();
        for (json, expected, bound_to) in [
            (json!(42), BindValue::Integer(42), "42"),
            (json!(-7), BindValue::Integer(-7), "-7"),
            (json!({ "uuid": id }), BindValue::Uuid(of_id), id),
            (
                json!({ "uuid": id.to_uppercase() }),
                BindValue::Uuid(of_id),
                id,
            ),
            (
                json!({ "bytes": "00fF" }),
                BindValue::Bytes(vec![0, 255]),
                "00ff",
            ),
            (json!({ "bytes": "" }), BindValue::Bytes(Vec::new()), ""),
            (json!("a/b"), "a/b".into(), "a%2Fb"),
        ] {
            let bind = bind_of(&json).unwrap();
            assert_eq!(bind, expected, "{json}");
            let golden = format!("ssn/{bound_to}");
            assert_eq!(associated_data("ssn", &[bind]), golden.as_bytes());
        }
        for text in ["42", "int:42", "text:a:b", "hex:00", "uuid:x", id, ""] {
            assert_eq!(bind_of(&json!(text)).unwrap(), text.into());
        }
    }

    #[test]
    fn what_is_no_bind_value_is_refused_with_what_is() {
        for bad in [
            json!(1.5),
            json!(1e300),
            json!(null),
            json!(true),
            json!([1]),
            json!(u64::MAX),
            json!({}),
            json!({ "int": 1 }),
            json!({ "uuid": 1 }),
            json!({ "uuid": "1" }),
            json!({ "bytes": "0" }),
            json!({ "bytes": "zz" }),
            json!({ "bytes": "00", "uuid": "1" }),
        ] {
            let error = bind_of(&bad).unwrap_err().to_string();
            assert!(error.contains("expected"), "{bad}: {error}");
        }
    }
}
