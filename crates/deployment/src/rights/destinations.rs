//! What keeping bundles at S3 and Azure takes: making and reading objects, and nothing that erases.

use rekey_destinations::{DestinationUrl, Keeper};
use rekey_domain::{DestinationName, Role, Worker};
use rekey_operations::Services;
use serde::Serialize;
use serde_json::{Value, json};

/// Rights at one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DestinationRights {
    /// Its name.
    pub destination: DestinationName,
    /// Of S3: the policy of its role.
    pub policy: Option<Value>,
    /// Of S3: what the policy of the bucket says besides, to everybody: no object is written over.
    pub bucket_policy: Option<Value>,
    /// Of Azure: the command that prints a signature (SAS) for its environment.
    pub command: Option<String>,
}

/// Of whoever stores or reads bundles: the verifier, and the command line, as `rekey init` stores the first ones.
pub(super) fn rights(who: Role, services: &Services) -> Vec<DestinationRights> {
    if !matches!(who, Role::Worker(Worker::BackupVerifier) | Role::Operator) {
        return Vec::new();
    }
    let mut all: Vec<_> = services.backups.all().filter_map(of).collect();
    all.sort_by(|one, other| one.destination.cmp(&other.destination));
    all
}

fn of((name, url): (&DestinationName, &DestinationUrl)) -> Option<DestinationRights> {
    let none = DestinationRights {
        destination: name.clone(),
        policy: None,
        bucket_policy: None,
        command: None,
    };
    match url.keeper() {
        Keeper::Directory => None,
        Keeper::S3 { bucket, prefix } => Some(DestinationRights {
            policy: Some(policy(bucket, prefix)),
            bucket_policy: Some(bucket_policy(bucket, prefix)),
            ..none
        }),
        Keeper::Azure { container, account } => Some(DestinationRights {
            command: Some(command(container, account)),
            ..none
        }),
    }
}

fn policy(bucket: &str, prefix: &str) -> Value {
    json!({ "Version": "2012-10-17", "Statement": [
        {
            "Sid": "MakeAndReadBundles",
            "Effect": "Allow",
            "Action": ["s3:PutObject", "s3:GetObject"],
            "Resource": objects(bucket, prefix),
        },
        {
            "Sid": "ListBundles",
            "Effect": "Allow",
            "Action": "s3:ListBucket",
            "Resource": format!("arn:aws:s3:::{bucket}"),
        },
    ] })
}

/// A request without `If-None-Match` could write over. That header is asked of the one that makes an object, which of a
/// multipart upload is the last.
fn bucket_policy(bucket: &str, prefix: &str) -> Value {
    json!({ "Version": "2012-10-17", "Statement": [{
        "Sid": "WriteOverNothing",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": objects(bucket, prefix),
        "Condition": {
            "Null": { "s3:if-none-match": "true" },
            "Bool": { "s3:ObjectCreationOperation": "true" },
        },
    }] })
}

fn objects(bucket: &str, prefix: &str) -> String {
    let slash = if prefix.is_empty() { "" } else { "/" };
    format!("arn:aws:s3:::{bucket}/{prefix}{slash}*")
}

/// Create, read and list; neither write, which would write over, nor delete.
fn command(container: &str, account: Option<&str>) -> String {
    let account = account.unwrap_or("ACCOUNT");
    format!(
        "az storage container generate-sas --account-name {account} --name {container} --permissions crl --https-only --expiry DATE"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights_of(url: &str) -> Option<DestinationRights> {
        let (name, url) = ("vault".parse().unwrap(), url.parse().unwrap());
        of((&name, &url))
    }

    /// The policies as they are given to people. No emulator here evaluates them.
    #[test]
    fn a_writer_may_make_and_read_and_neither_delete_nor_write_over() {
        let found = rights_of("s3://clinic-rekey/prod?region=eu-west-3").unwrap();
        let policy = json!({ "Version": "2012-10-17", "Statement": [
            { "Sid": "MakeAndReadBundles", "Effect": "Allow", "Action": ["s3:PutObject", "s3:GetObject"],
              "Resource": "arn:aws:s3:::clinic-rekey/prod/*" },
            { "Sid": "ListBundles", "Effect": "Allow", "Action": "s3:ListBucket",
              "Resource": "arn:aws:s3:::clinic-rekey" },
        ] });
        assert_eq!(found.policy, Some(policy));
        let bucket = json!({ "Version": "2012-10-17", "Statement": [{
            "Sid": "WriteOverNothing", "Effect": "Deny", "Principal": "*", "Action": "s3:PutObject",
            "Resource": "arn:aws:s3:::clinic-rekey/prod/*",
            "Condition": { "Null": { "s3:if-none-match": "true" },
                           "Bool": { "s3:ObjectCreationOperation": "true" } },
        }] });
        assert_eq!(found.bucket_policy, Some(bucket));
        assert_eq!(found.command, None);
    }

    #[test]
    fn a_signature_at_azure_creates_and_reads() {
        let found = rights_of("az://bundles/prod?account=clinic").unwrap();
        let command = "az storage container generate-sas --account-name clinic --name bundles --permissions crl --https-only --expiry DATE";
        assert_eq!(found.command.as_deref(), Some(command));
        assert_eq!((found.policy, found.bucket_policy), (None, None));
    }

    #[test]
    fn of_a_directory_nothing_is_granted() {
        assert_eq!(rights_of("file:///var/lib/rekey/backups"), None);
    }
}
