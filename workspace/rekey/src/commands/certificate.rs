//! `rekey rotations certificate` and `verify-certificate`: showing what is signed, and verifying it anywhere.

mod page;

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use rekey_envelope::JwkSet;
use rekey_operations::certificates::{
    self, published_keys,
    verify::{CertificateError, LIMIT, Verified, verify_certificate},
};
use serde_json::json;
use uuid::Uuid;

pub use page::page;

use crate::{
    app::App,
    exit::{Exit, UsageError},
    output::{self, Output, time},
};

const KEYS_LIMIT: u64 = 1 << 20;

/// What `verify-certificate` takes.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// What `rekey rotations certificate ID --output json` printed, or the text of its jws; - for stdin.
    file: PathBuf,
    /// What `rekey keys public --output json` printed; then nothing else is asked. Without it the
    /// store of this deployment is.
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
}

impl Verify {
    /// Whether it needs no deployment.
    pub fn is_offline(&self) -> bool {
        self.keys.is_some()
    }
}

/// Prints the certificate of a rotation.
pub async fn show(rotation: Uuid, app: &App) -> anyhow::Result<Exit> {
    let view = certificates::certificate(&app.services, rotation, &app.principal).await?;
    match app.output {
        Output::Json => {
            let object = json!({
                "rotation": rotation,
                "signature": view.signature,
                "jws": view.jws,
                "certificate": view.payload,
            });
            output::object("rekey.signed-certificate/v1", object)?;
        }
        Output::Table => output::bytes(page(&view.certificate, view.signature).as_bytes())?,
    }
    Ok(Exit::Done)
}

/// Verifies a certificate with the keys that this deployment publishes.
pub async fn verify(args: &Verify, app: &App) -> anyhow::Result<Exit> {
    report(
        args,
        &published_keys(&app.services, &app.principal).await?,
        app.output,
    )
}

/// The same with the keys of a file: no store, no KMS, no configuration.
pub fn verify_offline(args: &Verify, output: Output) -> anyhow::Result<Exit> {
    let path = args.keys.as_deref().unwrap_or(Path::new("-"));
    let bytes = read(path, KEYS_LIMIT)?;
    let wrong = |error| UsageError(format!("{}: {error}", path.display()));
    report(args, &JwkSet::parse(&bytes).map_err(wrong)?, output)
}

fn report(args: &Verify, keys: &JwkSet, output: Output) -> anyhow::Result<Exit> {
    let file = read(&args.file, LIMIT as u64)?;
    match verify_certificate(&file, keys) {
        Ok(verified) => good(&verified, output)?,
        Err(error) => return bad(error, output),
    }
    Ok(Exit::Done)
}

fn good(verified: &Verified, output: Output) -> anyhow::Result<()> {
    let Verified {
        certificate, key, ..
    } = verified;
    if output == Output::Json {
        let object = json!({
            "verdict": "good",
            "rotation": certificate.rotation,
            "signed_by": certificate.signed_by,
            "key_state": key.state,
        });
        return Ok(output::object("rekey.certificate-verdict/v1", object)?);
    }
    let name = key
        .name
        .as_ref()
        .map_or_else(String::new, |name| format!("{name}, "));
    output::line(&format!("good: signed by {name}key id {}", key.kid))?;
    output::line(&format!(
        "{} {} of keyring {}, completed {}",
        certificate.kind.noun(),
        certificate.rotation,
        certificate.keyring,
        time(certificate.completed_at)
    ))?;
    Ok(())
}

fn bad(error: CertificateError, output: Output) -> anyhow::Result<Exit> {
    if output == Output::Json {
        let object = json!({ "verdict": "bad", "problem": error.to_string() });
        output::object("rekey.certificate-verdict/v1", object)?;
    }
    Err(anyhow::Error::new(error).context("bad: nothing in this certificate is to be believed"))
}

/// A little more than `limit` bytes at most: who parses them sees that they are too many.
fn read(path: &Path, limit: u64) -> Result<Vec<u8>, UsageError> {
    let mut bytes = Vec::new();
    let read = |reader: &mut dyn Read, into: &mut Vec<u8>| -> io::Result<usize> {
        reader.take(limit + 1).read_to_end(into)
    };
    let done = if path == Path::new("-") {
        read(&mut io::stdin().lock(), &mut bytes)
    } else {
        File::open(path).and_then(|mut file| read(&mut file, &mut bytes))
    };
    let wrong = |error| UsageError(format!("{} cannot be read: {error}", path.display()));
    done.map_err(wrong)?;
    Ok(bytes)
}
