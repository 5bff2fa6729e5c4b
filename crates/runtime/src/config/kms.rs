//! `[kms]`: who keeps the master key, and where.

use std::path::PathBuf;

use super::section::Section;

/// `[kms]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KmsConfig {
    /// A file that only its owner can read.
    Local {
        /// The master key file; none: in the state directory.
        path: Option<PathBuf>,
        /// A file with the passphrase that seals it, private to its owner; read at each connect.
        passphrase_file: Option<PathBuf>,
    },
    /// AWS KMS, with the credentials of the SDK's default chain.
    Aws {
        /// The master key: its alias, its id, or the ARN of either.
        master_key: String,
        /// Where requests go; none: AWS.
        endpoint_url: Option<String>,
        /// Its region; none: that of its ARN, or of environment and profile.
        region: Option<String>,
    },
}

impl Default for KmsConfig {
    fn default() -> Self {
        Self::Local {
            path: None,
            passphrase_file: None,
        }
    }
}

/// Keys of the local KMS alone.
const LOCAL_KEYS: [&str; 2] = ["path", "passphrase_file"];
/// Keys of AWS KMS alone.
const AWS_KEYS: [&str; 3] = ["master_key", "endpoint_url", "region"];

pub(super) fn read(mut section: Section<'_>) -> KmsConfig {
    let config = match section.text("provider").as_deref() {
        None | Some("local") => read_local(&mut section),
        Some("aws") => read_aws(&mut section),
        Some(found) => {
            section.wrong(
                "provider",
                format!("expected \"local\" or \"aws\", found {found:?}"),
            );
            for name in LOCAL_KEYS.into_iter().chain(AWS_KEYS) {
                section.take(name);
            }
            KmsConfig::default()
        }
    };
    section.end();
    config
}

fn read_local(section: &mut Section<'_>) -> KmsConfig {
    let [path, passphrase_file] = LOCAL_KEYS.map(|name| {
        let path = section.text(name).map(PathBuf::from);
        if path
            .as_ref()
            .is_some_and(|path| path.as_os_str().is_empty())
        {
            section.wrong(name, "is empty; expected the path of a file");
        }
        path
    });
    for name in AWS_KEYS {
        if section.take(name).is_some() {
            section.wrong(
                name,
                "belongs to AWS KMS; say provider = \"aws\", or path for the local KMS",
            );
        }
    }
    KmsConfig::Local {
        path,
        passphrase_file,
    }
}

fn read_aws(section: &mut Section<'_>) -> KmsConfig {
    let master_key = section.required("master_key", "\"alias/phi-master-key\"");
    if master_key.as_ref().is_some_and(String::is_empty) {
        section.wrong(
            "master_key",
            "is empty; expected an alias, a key id or an ARN",
        );
    }
    let endpoint_url = section.text("endpoint_url");
    if endpoint_url.as_deref().is_some_and(|url| !is_endpoint(url)) {
        // It is not shown, as it may hold a password.
        section.wrong(
            "endpoint_url",
            "expected such as \"https://kms.example.org\", without user and password",
        );
    }
    let region = section.text("region");
    if region.as_deref().is_some_and(|region| !is_region(region)) {
        section.wrong("region", "expected such as \"eu-west-3\"");
    }
    for name in LOCAL_KEYS {
        if section.take(name).is_some() {
            section.wrong(name, "belongs to the local KMS; AWS KMS has master_key");
        }
    }
    KmsConfig::Aws {
        master_key: master_key.unwrap_or_default(),
        endpoint_url,
        region,
    }
}

fn is_endpoint(url: &str) -> bool {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let allowed = |c: char| c.is_ascii_graphic() && !matches!(c, '@' | '?' | '#');
    rest.is_some_and(|rest| !rest.is_empty() && rest.chars().all(allowed))
}

fn is_region(region: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !region.is_empty() && region.chars().all(allowed)
}
