//! What each worker and the command line ask of the KMS, as a statement of the master key's policy.

use serde_json::{Value, json};

use super::{Grantee, Worker};

/// Of the workers only the rotator makes keys; the re-encryptor unwraps them; the scheduler has nothing
/// to do there. The command line makes first keys, and replaces the master key.
pub(super) fn statement(who: Grantee) -> Option<Value> {
    let actions: &[&str] = match who {
        Grantee::Worker(Worker::Scheduler) => return None,
        Grantee::Worker(Worker::Rotator) => {
            &["kms:GenerateDataKey", "kms:Decrypt", "kms:DescribeKey"]
        }
        Grantee::Worker(Worker::ReEncryptor) => &["kms:Decrypt", "kms:DescribeKey"],
        Grantee::Operator => &[
            "kms:GenerateDataKey",
            "kms:Decrypt",
            "kms:DescribeKey",
            "kms:CreateKey",
            "kms:CreateAlias",
            "kms:UpdateAlias",
            "kms:ReEncryptFrom",
            "kms:ReEncryptTo",
        ],
    };
    let name = who.name();
    Some(json!({
        "Sid": format!("rekey-{name}"),
        "Effect": "Allow",
        "Principal": { "AWS": format!("arn:aws:iam::ACCOUNT:role/rekey-{name}") },
        "Action": actions,
        "Resource": "*",
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_workers_only_the_rotator_may_make_data_keys() {
        for worker in Worker::ALL {
            let policy = statement(worker.into()).unwrap_or_default().to_string();
            let makes = policy.contains("kms:GenerateDataKey");
            assert_eq!(makes, worker == Worker::Rotator, "{policy}");
            for never in ["Encrypt\"", "CreateKey", "ReEncrypt", "kms:*"] {
                assert!(!policy.contains(never), "{policy}");
            }
        }
    }
}
