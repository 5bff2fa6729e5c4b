//! What each worker and the command line ask of the KMS, as the policy of its role at AWS.

use rekey_domain::{Purpose, Role, Worker};
use serde_json::{Value, json};
use uuid::Uuid;

/// In place of the deployment's id, where there is none yet.
const NO_DEPLOYMENT: &str = "DEPLOYMENT";

/// Of the workers only the rotator makes keys, of every purpose, and it opens those that seal the audit
/// log and sign; the re-encryptor opens those that it moves values between; the backup-verifier opens all; the scheduler
/// has nothing to do there. The command line makes first keys, reads the log, and replaces the master key.
///
/// What is opened or made is bound to this deployment and a purpose, by the encryption context that
/// every data key is wrapped with. Describing the master key has none, nor has making one.
pub(super) fn policy(who: Role, deployment: Option<Uuid>) -> Option<Value> {
    use Purpose::{Audit, Phi, Signing};
    let made = deployment.map(|id| id.to_string());
    let on = |sid, actions: &[&str], purposes: &[Purpose]| {
        // What makes the first keys of a deployment cannot name it yet.
        let named = made
            .as_deref()
            .or((who != Role::Operator).then_some(NO_DEPLOYMENT));
        bound(sid, actions, named, purposes)
    };
    let statements = match who {
        Role::Worker(Worker::Scheduler | Worker::IncidentNotifier) => return None,
        Role::Worker(Worker::Rotator) => vec![
            on("MakeDataKeys", &["kms:GenerateDataKey"], &Purpose::ALL),
            on("OpenDataKeys", &["kms:Decrypt"], &[Audit, Signing]),
            free("DescribeMasterKey", &["kms:DescribeKey"]),
        ],
        Role::Worker(Worker::ReEncryptor) => vec![
            on("OpenDataKeys", &["kms:Decrypt"], &[Phi, Audit]),
            free("DescribeMasterKey", &["kms:DescribeKey"]),
        ],
        // It seals every key into a bundle, and compares what comes back.
        Role::Worker(Worker::BackupVerifier) => vec![
            on("OpenDataKeys", &["kms:Decrypt"], &Purpose::ALL),
            free("DescribeMasterKey", &["kms:DescribeKey"]),
        ],
        Role::Operator => vec![
            on(
                "UseDataKeys",
                &[
                    "kms:GenerateDataKey",
                    "kms:Decrypt",
                    "kms:Encrypt",
                    "kms:ReEncryptFrom",
                    "kms:ReEncryptTo",
                ],
                &Purpose::ALL,
            ),
            free(
                "MakeMasterKeys",
                &[
                    "kms:DescribeKey",
                    "kms:CreateKey",
                    "kms:TagResource",
                    "kms:CreateAlias",
                    "kms:UpdateAlias",
                ],
            ),
        ],
    };
    Some(json!({ "Version": "2012-10-17", "Statement": statements }))
}

fn bound(sid: &str, actions: &[&str], deployment: Option<&str>, purposes: &[Purpose]) -> Value {
    let purposes: Vec<_> = purposes.iter().map(ToString::to_string).collect();
    let mut context = json!({ "kms:EncryptionContext:purpose": purposes });
    if let Some(deployment) = deployment {
        context["kms:EncryptionContext:deployment"] = json!(deployment);
    }
    let mut statement = free(sid, actions);
    statement["Condition"] = json!({ "StringEquals": context });
    statement
}

fn free(sid: &str, actions: &[&str]) -> Value {
    json!({ "Sid": sid, "Effect": "Allow", "Action": actions, "Resource": "*" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_workers_only_the_rotator_may_make_data_keys() {
        for worker in Worker::ALL {
            let policy = policy(worker.into(), None).unwrap_or_default().to_string();
            let makes = policy.contains("kms:GenerateDataKey");
            assert_eq!(makes, worker == Worker::Rotator, "{policy}");
            for never in ["Encrypt\"", "CreateKey", "ReEncrypt", "kms:*"] {
                assert!(!policy.contains(never), "{policy}");
            }
        }
    }

    #[test]
    fn whatever_opens_or_makes_a_data_key_is_bound_to_the_deployment_and_to_purposes() {
        let deployment = Uuid::now_v7();
        for who in Role::ALL {
            let Some(policy) = policy(who, Some(deployment)) else {
                continue;
            };
            for statement in policy["Statement"].as_array().unwrap() {
                let actions = statement["Action"].to_string();
                let keys = ["Decrypt", "DataKey", "ReEncrypt"];
                let context = &statement["Condition"]["StringEquals"];
                let bound = context["kms:EncryptionContext:deployment"] == deployment.to_string()
                    && context["kms:EncryptionContext:purpose"].is_array();
                assert_eq!(
                    bound,
                    keys.iter().any(|key| actions.contains(key)),
                    "{statement}"
                );
            }
        }
    }
}
