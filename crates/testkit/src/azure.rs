//! Containers at the emulator of Azure, and signatures that allow some of what can be done there.

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::{PrivateAzure, services, tls::http_client};

/// A container of the test's own.
///
/// # Panics
/// Where the emulator does not make it.
pub async fn container() -> String {
    let container = format!("rekey-test-{}", uuid::Uuid::new_v4());
    let (endpoint, signature) = (services::url(services::AZURE), signature("rwdlac"));
    let url = format!("{endpoint}/{container}?restype=container&{signature}");
    let request = http_client().put(url).header("content-length", "0");
    let made = request.send().await.expect("the emulator answers");
    assert!(made.status().is_success(), "{made:?}");
    container
}

/// Lets who has it do these in the account, for long: `AZURE_STORAGE_SAS_TOKEN`.
///
/// # Panics
/// Never: its key is a key.
pub fn signature(rights: &str) -> String {
    let (version, services, types) = ("2019-12-12", "b", "sco");
    let (from, until) = ("2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z");
    let account = PrivateAzure::ACCOUNT;
    let signed =
        format!("{account}\n{rights}\n{services}\n{types}\n{from}\n{until}\n\n\n{version}\n");
    let key = BASE64_STANDARD
        .decode(PrivateAzure::KEY)
        .expect("it is base64");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any length will do");
    mac.update(signed.as_bytes());
    let signature = BASE64_STANDARD.encode(mac.finalize().into_bytes());
    let signature = signature
        .replace('+', "%2B")
        .replace('/', "%2F")
        .replace('=', "%3D");
    format!(
        "sv={version}&ss={services}&srt={types}&sp={rights}&st={from}&se={until}&sig={signature}"
    )
}
