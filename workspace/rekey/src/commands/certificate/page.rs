//! A certificate as a page for people: plain text, aligned, ending with how to verify it.

use std::collections::BTreeMap;

use rekey_domain::RotationKind;
use rekey_operations::certificates::{
    Signature,
    content::{Certificate, ExposureFacts, IncidentFacts, KeyFacts},
};

use crate::output::{format_table, optional, printable, time};

/// The whole page.
pub fn page(certificate: &Certificate, signature: Signature) -> String {
    let sections = [
        head(certificate, signature),
        census(certificate),
        supports(certificate),
        how_to_verify(certificate, signature),
    ];
    let sections: Vec<_> = sections
        .into_iter()
        .filter(|text| !text.is_empty())
        .collect();
    sections.join("\n")
}

fn head(certificate: &Certificate, signature: Signature) -> String {
    let mut rows = vec![
        ["certificate".to_owned(), title(certificate)],
        ["signature".to_owned(), signed(certificate, signature)],
        ["rotation".to_owned(), certificate.rotation.to_string()],
        ["deployment".to_owned(), optional(certificate.deployment)],
        ["keyring".to_owned(), keyring(certificate)],
    ];
    rows.extend(keys(certificate));
    rows.extend([
        [
            "asked for".to_owned(),
            format!("by {} ({})", certificate.requested_by, certificate.reason),
        ],
        ["requested".to_owned(), time(certificate.requested_at)],
        ["switched".to_owned(), switched(certificate)],
        ["counted".to_owned(), counted(certificate)],
        ["completed".to_owned(), time(certificate.completed_at)],
        ["values".to_owned(), values(certificate)],
        ["quarantine".to_owned(), quarantine(certificate)],
        ["gates off".to_owned(), gates_off(certificate)],
    ]);
    rows.extend(certificate.incidents.iter().map(|incident| {
        let since = incident.since.map(time);
        let since = since.map_or_else(String::new, |at| format!(", known to others since {at}"));
        let IncidentFacts {
            key,
            reported_by,
            id,
            ..
        } = incident;
        let at = time(incident.reported_at);
        [
            "compromised".to_owned(),
            format!("{key}, as {reported_by} reported at {at}{since}: incident {id}"),
        ]
    }));
    rows.extend(
        certificate
            .exposure
            .iter()
            .map(|exposure| ["exposed".to_owned(), exposed(exposure)]),
    );
    rows.extend(certificate.acts.iter().map(|act| {
        [
            "by hand".to_owned(),
            format!("{} by {} at {}", act.action, act.by, time(act.at)),
        ]
    }));
    format_table(["", ""], rows)
}

/// Of all rotations that answered the same reports. Certificates of earlier programs speak of one rotation alone.
fn exposed(exposure: &ExposureFacts) -> String {
    let ExposureFacts {
        moved,
        moved_before,
        left,
        left_under,
    } = exposure;
    let all = match moved_before {
        None => format!("{moved} values, as this rotation moved"),
        Some(0) => format!("{moved} values, as moved"),
        Some(before) => format!(
            "{} values, {before} as moved by earlier rotations for the same reports and {moved} by this one",
            moved + before
        ),
    };
    let under = left_under.map_or_else(String::new, |under| format!("{under} left under it, "));
    format!(
        "{all} until nobody wrote under it; {under}{left} in all could not be moved (counts of work)"
    )
}

fn title(certificate: &Certificate) -> String {
    match certificate.kind {
        RotationKind::Switch => "of a completed key rotation",
        RotationKind::Sweep => "of a completed sweep: values moved to the primary key, no switch",
    }
    .to_owned()
}

/// The keys, and what a sweep was limited to.
fn keys(certificate: &Certificate) -> Vec<[String; 2]> {
    let from = key(certificate.from_key(), optional(certificate.from.as_ref()));
    let to = key(certificate.to_key(), optional(certificate.to.as_ref()));
    let mut rows = vec![["to".to_owned(), to]];
    if certificate.kind == RotationKind::Switch {
        rows.insert(0, ["from".to_owned(), from]);
    }
    // Each in a line of its own: they are long, and may be many.
    let columns = certificate.columns.iter();
    rows.extend(columns.map(|column| ["only rows of".to_owned(), column.clone()]));
    rows
}

fn switched(certificate: &Certificate) -> String {
    match certificate.kind {
        RotationKind::Switch => {
            let leases = certificate
                .leases_ended_at
                .map_or_else(String::new, |ended| {
                    format!(
                        "; the last encrypt lease under a key before ended by {}",
                        time(ended)
                    )
                });
            optional(certificate.switched_at.map(time)) + &leases
        }
        RotationKind::Sweep => "no key".to_owned(),
    }
}

fn signed(certificate: &Certificate, signature: Signature) -> String {
    match (&certificate.signed_by, signature) {
        (Some(by), _) => format!(
            "by {} (key id {}) at {}, verified",
            by.key,
            by.key_id,
            time(by.signed_at)
        ),
        (None, Signature::Unsigned) => {
            "UNSIGNED: written by a program that did not sign".to_owned()
        }
        (None, _) => "UNSIGNED so far: signed once a key of keyring signing can be used".to_owned(),
    }
}

fn keyring(certificate: &Certificate) -> String {
    let purpose = certificate.purpose.map(|purpose| format!(" ({purpose})"));
    format!("{}{}", certificate.keyring, purpose.unwrap_or_default())
}

fn key(facts: Option<&KeyFacts>, name: String) -> String {
    let Some(facts) = facts else { return name };
    let since = facts
        .activated_at
        .map_or_else(String::new, |at| format!(", primary since {}", time(at)));
    let until = facts
        .deactivated_at
        .map_or_else(String::new, |at| format!(" until {}", time(at)));
    format!(
        "{name} ({}, {}{since}{until})",
        facts.key_id, facts.algorithm
    )
}

fn counted(certificate: &Certificate) -> String {
    let [before, after] = [certificate.counted_before_at, certificate.counted_after_at]
        .map(|at| optional(at.map(time)));
    if !certificate.incidents.is_empty() && certificate.counted_before_at.is_none() {
        return format!("not before, as an emergency moves values at once; after {after}");
    }
    format!("before {before}, after {after}")
}

fn values(certificate: &Certificate) -> String {
    let Certificate {
        moved,
        passes,
        conflicts,
        ..
    } = certificate;
    format!(
        "{moved} moved in {passes} pass(es); {conflicts} written by the application at the same moment"
    )
}

fn quarantine(certificate: &Certificate) -> String {
    let reasons = certificate.quarantine.by_reason.iter();
    let reasons: Vec<_> = reasons
        .map(|count| format!("{}: {}", count.reason, count.values))
        .collect();
    match reasons[..] {
        [] => certificate.quarantined.to_string(),
        _ => format!("{} ({})", certificate.quarantined, reasons.join(", ")),
    }
}

fn gates_off(certificate: &Certificate) -> String {
    if certificate.gates_off.is_empty() {
        return "none".to_owned();
    }
    let value = |gate: &String| {
        let policy = certificate.policy.as_ref();
        let value = policy.and_then(|policy| match gate.as_str() {
            "backup" => Some(policy.backup.clone()),
            "encrypt_lease" => Some(policy.encrypt_lease.clone()),
            "key_lifetime" => Some(policy.key_lifetime.clone()),
            "max_encryptions" => Some(policy.max_encryptions.to_string()),
            _ => None,
        });
        value.map_or_else(|| gate.clone(), |value| format!("{gate} = {value}"))
    };
    let gates: Vec<_> = certificate.gates_off.iter().map(value).collect();
    gates.join(", ")
}

/// One line a column and key, before beside after.
fn census(certificate: &Certificate) -> String {
    let mut lines: BTreeMap<(String, &str), [u64; 2]> = BTreeMap::new();
    let censuses = [&certificate.census_before, &certificate.census_after];
    for (place, census) in censuses.into_iter().enumerate() {
        for line in census {
            let name = optional(line.column.as_ref());
            lines.entry((name, &line.under)).or_default()[place] += line.rows;
        }
    }
    if lines.is_empty() {
        return "nothing was counted: no column is protected by this keyring, or none held a value\n".to_owned();
    }
    let row = |((column, under), [before, after]): ((String, &str), [u64; 2])| {
        [
            column,
            under.to_owned(),
            before.to_string(),
            after.to_string(),
        ]
    };
    format_table(
        ["COLUMN", "UNDER", "BEFORE", "AFTER"],
        lines.into_iter().map(row).collect(),
    )
}

fn supports(certificate: &Certificate) -> String {
    if certificate.supports.is_empty() {
        return String::new();
    }
    let mut text =
        "supports (facts for an auditor; whether a clause is met is theirs to say)\n".to_owned();
    for support in &certificate.supports {
        text += &format!(
            "  {}: {}\n",
            printable(support.clause.clone()),
            printable(support.about.clone())
        );
        for line in wrapped(&printable(support.fact.clone()), 92) {
            text += &format!("    {line}\n");
        }
    }
    text
}

fn how_to_verify(certificate: &Certificate, signature: Signature) -> String {
    if signature != Signature::Signed {
        return "unsigned: nothing to verify but the audit log: rekey audit verify\n".to_owned();
    }
    let id = certificate.rotation;
    format!(
        "to verify, anywhere and without this deployment\n  \
           rekey --output json rotations certificate {id} > certificate.json\n  \
           rekey --output json keys public > keys.json\n  \
           rekey rotations verify-certificate certificate.json --keys keys.json\n  \
         or with any JOSE library: its jws is RFC 7515 with EdDSA, keys.json a JWK set\n"
    )
}

/// The words of a text in lines of at most `width`, longer words alone.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden() -> Certificate {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../docs/format/certificate.json"
        );
        let text = std::fs::read_to_string(path).unwrap();
        let mut vectors: serde_json::Value = serde_json::from_str(&text).unwrap();
        serde_json::from_value(vectors["vectors"][0]["certificate"].take()).unwrap()
    }

    #[test]
    fn a_page_fits_a_screen_and_ends_with_how_to_verify() {
        let page = page(&golden(), Signature::Signed);
        for says in [
            "by signing/1 (key id 0a1b2c3d) at 2026-04-07T00:02:02Z, verified",
            "phi/1 (00000001, AES-256-GCM, primary since 2026-01-01T00:00:00Z until",
            "2 (unopened: 2)",
            "backup = off",
            "COLUMN               UNDER  BEFORE  AFTER\nclinic.patients.ssn  phi/1  1000    2\nclinic.patients.ssn  phi/2  0       998\n",
            "HIPAA 45 CFR §164.312(a)(2)(iv)",
        ] {
            assert!(page.contains(says), "{says:?} in\n{page}");
        }
        assert!(page.lines().count() <= 45, "{page}");
        assert!(
            page.lines().all(|line| line.chars().count() <= 110),
            "{page}"
        );
        assert!(page.ends_with("keys.json a JWK set\n"), "{page}");
    }

    #[test]
    fn the_page_of_a_sweep_says_that_no_key_was_replaced_and_what_it_was_limited_to() {
        let mut sweep = golden();
        sweep.kind = RotationKind::Sweep;
        sweep.columns = vec!["clinic.patients.ssn".to_owned()];
        (sweep.from, sweep.switched_at) = (None, None);
        let page = page(&sweep, Signature::Signed);
        for says in [
            "of a completed sweep: values moved to the primary key, no switch",
            "switched      no key",
            "only rows of  clinic.patients.ssn",
            "to            phi/2",
        ] {
            assert!(page.contains(says), "{says:?} in\n{page}");
        }
        assert!(!page.contains("\nfrom "), "{page}");
    }

    #[test]
    fn what_is_not_signed_says_so_and_is_not_said_to_be_verified() {
        let mut unsigned = golden();
        unsigned.signed_by = None;
        for signature in [Signature::Unsigned, Signature::Waits] {
            let page = page(&unsigned, signature);
            assert!(page.contains("UNSIGNED"), "{page}");
            assert!(!page.contains(", verified"), "{page}");
        }
    }

    #[test]
    fn nothing_in_a_certificate_steers_the_terminal() {
        let mut hostile = golden();
        hostile.supports[0].fact = "\u{1b}[2J".to_owned();
        hostile.supports[0].clause = "\u{7}".to_owned();
        hostile.gates_off = vec!["\u{1b}[31m".to_owned()];
        hostile.census_after[0].under = "\r".to_owned();
        let page = page(&hostile, Signature::Signed);
        assert!(
            page.chars().all(|c| !c.is_control() || c == '\n'),
            "{page:?}"
        );
    }
}
