//! Which clauses a certificate is evidence for, each with the fact in it that supports the clause.

use std::collections::BTreeSet;

use chrono::{DateTime, SecondsFormat, Utc};
use rekey_domain::{Algorithm, HARD_LIMIT, Purpose};

use super::content::{Certificate, Support};

/// The clauses that the facts support; one without a fact is left out. Words are chosen so that
/// nothing is claimed: facts support, auditors judge.
pub fn supports(certificate: &Certificate) -> Vec<Support> {
    [
        cryptoperiod(certificate),
        invocations(certificate),
        encryption_at_rest(certificate),
        key_change(certificate),
        retirement(certificate),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn cryptoperiod(certificate: &Certificate) -> Option<Support> {
    let from = certificate.from_key()?;
    let (since, until) = (from.activated_at?, certificate.switched_at?);
    let lifetime = &certificate.policy.as_ref()?.key_lifetime;
    let days = (until - since).num_days();
    support(
        "NIST SP 800-57 Part 1 Rev. 5, §5.3",
        "cryptoperiods",
        format!(
            "{} was the primary key from {} to {} ({days} days, against a key_lifetime of {lifetime}); then {} replaced it.",
            from.key,
            time(since),
            time(until),
            certificate.to.as_ref()?,
        ),
    )
}

fn invocations(certificate: &Certificate) -> Option<Support> {
    let from = certificate.from_key()?;
    if from.algorithm != Algorithm::Aes256Gcm {
        return None;
    }
    support(
        "NIST SP 800-38D, §8.3",
        "number of encryptions under one key",
        format!(
            "{} encryptions were counted under {} over all processes, of at most {HARD_LIMIT} with random nonces; counted blocks that were lost are included.",
            from.used, from.key,
        ),
    )
}

fn encryption_at_rest(certificate: &Certificate) -> Option<Support> {
    let to = certificate.to_key()?;
    let after = &certificate.census_after;
    if certificate.purpose != Some(Purpose::Phi) || after.is_empty() {
        return None;
    }
    let counted: u64 = after.iter().map(|line| line.rows).sum();
    let under = Certificate::under(after, Some(&to.key));
    let columns: BTreeSet<_> = after.iter().map(|line| &line.column).collect();
    let opened = certificate
        .opened
        .map_or_else(String::new, |values| opened(values, under));
    let rest = match counted - under {
        0 => String::new(),
        rest => format!("; {rest} were found otherwise, as its census and its quarantine say"),
    };
    support(
        "HIPAA 45 CFR §164.312(a)(2)(iv)",
        "encryption and decryption of electronic PHI",
        format!(
            "of {counted} values in {} protected column(s), {under} had the form of ciphertext under {} ({}) at {}{opened}{rest}.",
            columns.len(),
            to.key,
            to.algorithm,
            time(certificate.counted_after_at?),
        ),
    )
}

/// The two counts are of different moments, so their difference would be a number that nobody saw.
fn opened(values: u64, counted: u64) -> String {
    let fewer = if values < counted {
        ": fewer than were counted, as what was written or given another place meanwhile was not opened"
    } else {
        ""
    };
    format!(
        "; the pass before it opened {values} value(s) at their place under this key or a later one{fewer}"
    )
}

fn key_change(certificate: &Certificate) -> Option<Support> {
    let (from, to) = (certificate.from.as_ref()?, certificate.to.as_ref()?);
    support(
        "PCI DSS 4.0.1, 3.7.4",
        "key changes at the end of a cryptoperiod",
        format!(
            "{} asked for the change at {} (reason: {}); {to} replaced {from} at {}.",
            certificate.requested_by,
            time(certificate.requested_at),
            certificate.reason,
            time(certificate.switched_at?),
        ),
    )
}

fn retirement(certificate: &Certificate) -> Option<Support> {
    let from = certificate.from_key()?;
    let retired = time(from.deactivated_at?);
    let mut incidents = certificate.incidents.iter();
    let state = match incidents.find(|incident| incident.key_id == from.key_id) {
        Some(incident) => {
            let at = time(incident.reported_at);
            format!("COMPROMISED, as was reported at {at}, and encrypts nothing since {retired}")
        }
        None => format!("INACTIVE since {retired}"),
    };
    let fact = if from.algorithm == Algorithm::Ed25519 {
        format!(
            "{} is {state} and signs no more; its public key stays published.",
            from.key
        )
    } else {
        let ended = certificate.leases_ended_at?;
        // Without a census nothing was found, and nothing is said.
        certificate.counted_after_at?;
        let ended = ended.to_rfc3339_opts(SecondsFormat::Millis, true);
        let left = Certificate::under(&certificate.census_after, Some(&from.key));
        format!(
            "{} is {state}; no process began an encryption under it after {ended}, when the last lease to do so had ended, and the last census found {left} value(s) under it in the keyring's columns; {} value(s) of the keyring are in quarantine.",
            from.key, certificate.quarantined,
        )
    };
    let about = "retired and replaced keys are not used for encryption";
    support("PCI DSS 4.0.1, 3.7.5", about, fact)
}

fn support(clause: &str, about: &str, fact: String) -> Option<Support> {
    Some(Support {
        clause: clause.to_owned(),
        about: about.to_owned(),
        fact,
    })
}

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::example;

    fn clauses(certificate: &Certificate) -> Vec<String> {
        let found = supports(certificate).into_iter();
        found.map(|support| support.clause).collect()
    }

    #[test]
    fn each_clause_quotes_facts_of_the_certificate() {
        let certificate = example();
        let [cryptoperiod, invocations, at_rest, change, retirement] = &supports(&certificate)[..]
        else {
            panic!("five clauses: {:?}", clauses(&certificate));
        };
        for (support, fact) in [
            (
                cryptoperiod,
                "phi/1 was the primary key from 2026-01-01T00:00:00Z to 2026-03-31T00:01:00Z (89 days, against a key_lifetime of 90d); then phi/2",
            ),
            (invocations, "4096 encryptions were counted under phi/1"),
            (
                at_rest,
                "of 1000 values in 1 protected column(s), 998 had the form of ciphertext under phi/2 (AES-256-GCM) at 2026-04-07T00:02:00Z; 2 were found otherwise",
            ),
            (
                change,
                "schedule:phi asked for the change at 2026-03-31T00:00:00Z (reason: schedule); phi/2 replaced phi/1",
            ),
            (
                retirement,
                "no process began an encryption under it after 2026-03-31T00:06:00.000Z, when the last lease to do so had ended, and the last census found 2 value(s) under it in the keyring's columns; 2 value(s) of the keyring are in quarantine",
            ),
        ] {
            assert!(support.fact.contains(fact), "{}", support.fact);
        }
    }

    #[test]
    fn what_was_opened_is_said_apart_from_what_was_counted() {
        for (opened, says) in [
            (
                997,
                "opened 997 value(s) at their place under this key or a later one: fewer than were counted, as what was written or given another place meanwhile was not opened;",
            ),
            (
                998,
                "opened 998 value(s) at their place under this key or a later one;",
            ),
        ] {
            let certificate = Certificate {
                opened: Some(opened),
                ..example()
            };
            let fact = &supports(&certificate)[2].fact;
            assert!(fact.contains(says), "{fact}");
        }
    }

    #[test]
    fn nothing_is_claimed_to_be_met() {
        for support in supports(&example()) {
            let says = format!("{support:?}").to_lowercase();
            for claim in ["compl", "satisf", "fulfil", "meets", "certified"] {
                assert!(!says.contains(claim), "{says}");
            }
        }
    }

    #[test]
    fn a_clause_without_its_fact_is_left_out() {
        let no_key_before = Certificate {
            from: None,
            ..example()
        };
        assert_eq!(clauses(&no_key_before), ["HIPAA 45 CFR §164.312(a)(2)(iv)"]);
        let of_the_audit_log = Certificate {
            purpose: Some(Purpose::Audit),
            ..example()
        };
        assert!(!clauses(&of_the_audit_log).concat().contains("HIPAA"));
        let mut signing = example();
        signing.purpose = Some(Purpose::Signing);
        for key in &mut signing.keys {
            key.algorithm = Algorithm::Ed25519;
        }
        assert!(!clauses(&signing).concat().contains("38D"));
    }
}
