//! `[[keyring]]`: a keyring's purpose, algorithm and policy.

use std::time::Duration;

use rekey_domain::{
    Algorithm, BackupPolicy, HARD_LIMIT, KeyringName, KeyringPolicy, OnCompromise, Purpose,
    Schedule, format_duration, parse_duration,
};

use super::section::Section;

/// Keyrings of Rekey's own: they seal the audit log and bundles, and sign certificates.
const OURS: [(&str, Purpose); 3] = [
    ("audit", Purpose::Audit),
    ("backup", Purpose::Backup),
    ("signing", Purpose::Signing),
];
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// A keyring as the file wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyringConfig {
    /// Its name.
    pub name: KeyringName,
    /// What its keys are for.
    pub purpose: Purpose,
    /// How the keys encrypt that it makes from now on.
    pub algorithm: Algorithm,
    /// Its policy, defaults filled in; of backups what [`backup`](Self::backup) says counts.
    pub policy: KeyringPolicy,
    /// Whether its keys must be backed up; none: the file says nothing of it.
    pub backup: Option<BackupPolicy>,
}

impl KeyringConfig {
    /// Its policy, where a stored keyring has `stored`, and one that is made gets `made` unless the file says more.
    #[must_use]
    pub fn policy_over(&self, stored: Option<BackupPolicy>, made: BackupPolicy) -> KeyringPolicy {
        KeyringPolicy {
            backup: self.backup.or(stored).unwrap_or(made),
            ..self.policy.clone()
        }
    }

    /// The default keyring, if the file declares none.
    pub(super) fn phi() -> Self {
        let purpose = Purpose::Phi;
        Self {
            name: "phi".parse().expect("it is a name"),
            purpose,
            algorithm: purpose.default_algorithm(),
            policy: KeyringPolicy::default(),
            backup: None,
        }
    }
}

pub(super) fn read(mut section: Section<'_>) -> Option<KeyringConfig> {
    let name = section.required("name", "\"phi\"");
    let name = name.and_then(|name| {
        name.parse::<KeyringName>()
            .map_err(|error| section.wrong("name", error.to_string()))
            .ok()
    });
    let purpose = read_purpose(&mut section, name.as_ref());
    let algorithm = section.parsed("algorithm", str::parse::<Algorithm>);
    if let Some(algorithm) = algorithm {
        check_algorithm(&section, purpose, algorithm);
    }
    let policy = read_policy(&mut section);
    let backup = read_backup(&mut section);
    section.end();
    // A wrong purpose is reported already, and columns may still name this keyring.
    let purpose = purpose.unwrap_or(Purpose::Phi);
    Some(KeyringConfig {
        name: name?,
        purpose,
        algorithm: algorithm.unwrap_or(purpose.default_algorithm()),
        policy,
        backup,
    })
}

/// `backup = "required"` or `"off"`, of a keyring or of all.
pub(super) fn read_backup(section: &mut Section<'_>) -> Option<BackupPolicy> {
    section.parsed("backup", |text| match text {
        "required" => Ok(BackupPolicy::Required),
        "off" => Ok(BackupPolicy::Off),
        other => Err(format!("expected \"required\" or \"off\", found {other:?}")),
    })
}

/// Whether no column may name the keyring.
pub(super) fn is_ours(name: &str) -> bool {
    OURS.iter().any(|(ours, _)| *ours == name)
}

fn read_purpose(section: &mut Section<'_>, name: Option<&KeyringName>) -> Option<Purpose> {
    let ours = OURS
        .iter()
        .find(|(ours, _)| name.is_some_and(|name| name.as_str() == *ours));
    let text = match ours {
        Some((_, purpose)) => section
            .text("purpose")
            .unwrap_or_else(|| purpose.to_string()),
        None => section.required("purpose", "\"PHI\"")?,
    };
    let problem = match (text.parse(), ours) {
        (Ok(found), Some((_, purpose))) if found == *purpose => return Some(found),
        (Ok(Purpose::Phi), None) => return Some(Purpose::Phi),
        (_, Some((ours, purpose))) => {
            format!(
                "keyring {ours} is Rekey's own: expected {purpose}, found {text:?}; use another name"
            )
        }
        (Ok(found), None) => match OURS.iter().find(|(_, purpose)| *purpose == found) {
            Some((only, _)) => {
                format!("{found} is the purpose of keyring {only} alone; expected PHI")
            }
            None => format!("{found} keyrings are not built yet; expected PHI"),
        },
        (Err(error), None) => error,
    };
    section.wrong("purpose", problem);
    None
}

/// What signs cannot encrypt, and the other way round.
fn check_algorithm(section: &Section<'_>, purpose: Option<Purpose>, found: Algorithm) {
    let signs = |algorithm| algorithm == Algorithm::Ed25519;
    let Some(expected) = purpose.map(Purpose::default_algorithm) else {
        return;
    };
    if signs(expected) != signs(found) {
        let problem = format!("expected one such as {expected} for this purpose, found {found}");
        section.wrong("algorithm", problem);
    }
    if purpose == Some(Purpose::Backup) && found == Algorithm::Aes256Cbc {
        let problem = format!("bundles are sealed with {expected} only, found {found}");
        section.wrong("algorithm", problem);
    }
}

fn read_policy(section: &mut Section<'_>) -> KeyringPolicy {
    let mut policy = KeyringPolicy::default();
    read_schedule(section, &mut policy);
    read_times(section, &mut policy);
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    put(
        &mut policy.concurrency,
        section.whole("concurrency", 1..=64).map(small),
    );
    put(
        &mut policy.batch_rows,
        section.whole("batch_rows", 1..=100_000).map(small),
    );
    put(
        &mut policy.retry_attempts,
        section.whole("retry_attempts", 0..=100).map(small),
    );
    // SP 800-38D §8.3: no key makes more than 2^32 encryptions with random nonces.
    put(
        &mut policy.max_encryptions,
        section.whole("max_encryptions", 1..=HARD_LIMIT),
    );
    read_straggler_look(section, &mut policy);
    put(
        &mut policy.emergency_concurrency,
        section.whole("emergency_concurrency", 1..=64).map(small),
    );
    put(
        &mut policy.on_compromise,
        section.parsed("on_compromise", |text| match text {
            "stop" => Ok(OnCompromise::Stop),
            "stop-once-replaced" => Ok(OnCompromise::StopOnceReplaced),
            other => Err(format!(
                "expected \"stop\" or \"stop-once-replaced\", found {other:?}"
            )),
        }),
    );
    policy
}

fn read_straggler_look(section: &mut Section<'_>, policy: &mut KeyringPolicy) {
    let read = |text: &str| match text {
        "off" => Ok(None),
        every => parse_duration(every)
            .ok()
            .filter(|every| *every >= HOUR)
            .map(Some)
            .ok_or_else(|| format!("expected \"off\" or at least 1h, found {every:?}")),
    };
    put(
        &mut policy.straggler_look,
        section.parsed("straggler_look", read),
    );
}

fn read_schedule(section: &mut Section<'_>, policy: &mut KeyringPolicy) {
    policy.rotate = section.text("rotate");
    // Checked by itself, so that a wrong zone is named where it stands.
    let zone = section.parsed("time_zone", |zone| {
        Schedule::parse("0 0 * * *", zone).map(|_| zone.to_owned())
    });
    put(&mut policy.time_zone, zone);
    let Some(line) = &policy.rotate else { return };
    match Schedule::parse(line, &policy.time_zone) {
        Err(error) => section.wrong("rotate", error.to_string()),
        Ok(schedule) if schedule.next_after(chrono::DateTime::UNIX_EPOCH).is_none() => {
            section.wrong(
                "rotate",
                format!("cron line {line:?} names no day there is; expected one that comes"),
            );
        }
        Ok(_) => {}
    }
}

fn read_times(section: &mut Section<'_>, policy: &mut KeyringPolicy) {
    let timing = &mut policy.timing;
    put(
        &mut timing.keyset_max_age,
        section.duration("keyset_max_age", SECOND),
    );
    put(
        &mut timing.grace_period,
        section.duration("grace_period", Duration::ZERO),
    );
    put(
        &mut timing.sweep_every,
        section.duration("sweep_every", SECOND),
    );
    put(
        &mut policy.encrypt_lease,
        section.duration("encrypt_lease", SECOND),
    );
    put(
        &mut policy.key_lifetime,
        section.duration("key_lifetime", SECOND),
    );
    let (grace, lease) = (policy.timing.grace_period, policy.encrypt_lease);
    if grace < lease {
        let [grace, lease] = [grace, lease].map(format_duration);
        section.wrong(
            "grace_period",
            format!(
                "{grace} is shorter than encrypt_lease {lease}: clients could still write under the old key after the last sweep; expected at least {lease}"
            ),
        );
    }
    let rotation = policy.timing.keyset_max_age + grace;
    if policy.key_lifetime <= rotation {
        let [lifetime, rotation] = [policy.key_lifetime, rotation].map(format_duration);
        section.wrong(
            "key_lifetime",
            format!(
                "{lifetime} is no longer than keyset_max_age and grace_period together: each key would expire before the rotation to it completes; expected more than {rotation}"
            ),
        );
    }
}

fn put<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}
