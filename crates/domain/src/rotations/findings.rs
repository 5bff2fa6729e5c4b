//! What stands in the way of a rotation or of a column, and who has to do something about it.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::{
    Basis, Found, KeyId, KeyName, OnUpdate, PLAN_LIMIT, RequestDecision, RotationKind,
    RotationState, Triggers, decide_request, plan_fits,
};

/// What a finding asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Need {
    /// A person: nothing goes on, or nothing goes on well, before that.
    Person,
    /// Time: it passes by itself.
    Time,
    /// Nobody; good to know.
    Note,
}

impl Need {
    /// As people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Time => "time",
            Self::Note => "note",
        }
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it asks for.
    pub need: Need,
    /// What it is about: `keyring phi`, `column clinic.patients.ssn`.
    pub subject: String,
    /// What was found, and what to do.
    pub problem: String,
}

impl Finding {
    /// A person has to do something.
    pub fn person(subject: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::of(Need::Person, subject.into(), problem.into())
    }

    /// It passes by itself.
    pub fn time(subject: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::of(Need::Time, subject.into(), problem.into())
    }

    /// Good to know.
    pub fn note(subject: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::of(Need::Note, subject.into(), problem.into())
    }

    fn of(need: Need, subject: String, problem: String) -> Self {
        Self {
            need,
            subject,
            problem,
        }
    }
}

/// A keyring before a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyringFacts {
    /// Its name.
    pub keyring: String,
    /// Whether a key may encrypt.
    pub has_primary: bool,
    /// Whether the next key is there.
    pub has_standby: bool,
    /// Its latest rotation, if it ever had one.
    pub latest: Option<LatestRotation>,
    /// Encryptions counted under the key that will be the target.
    pub used: u64,
    /// Values to move, if every source could be asked.
    pub values: Option<(u64, Basis)>,
}

/// A rotation that a request would meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatestRotation {
    /// Its id.
    pub id: String,
    /// Whether it makes a switch.
    pub kind: RotationKind,
    /// Where it stands.
    pub state: RotationState,
    /// Whether it replaces a compromised key.
    pub replaces_compromised: bool,
    /// Why it is on hold, if it is.
    pub paused_because: Option<String>,
}

/// What of a keyring stands in the way of its rotation.
pub fn keyring_findings(facts: &KeyringFacts) -> Vec<Finding> {
    let subject = format!("keyring {}", facts.keyring);
    let mut findings = Vec::new();
    findings.extend(
        facts
            .latest
            .as_ref()
            .and_then(|latest| meets(&subject, latest)),
    );
    if !facts.has_primary {
        let problem = "it has no primary key: rekey init was cut short; run it again";
        findings.push(Finding::person(&subject, problem));
    }
    if !facts.has_standby {
        let problem = "it has no standby key: the rotation orders one and waits for it, which takes a rotator and the KMS";
        findings.push(Finding::time(&subject, problem));
    }
    if let Some((values, basis)) = facts.values
        && !plan_fits(facts.used, values)
    {
        let found = match basis {
            Basis::Counted => "counted",
            Basis::Catalogue | Basis::Sample => "estimated; --count counts them",
        };
        findings.push(Finding::person(
            subject,
            format!(
                "{values} values ({found}) and {} encryptions already made do not fit under one key: at most {PLAN_LIMIT} (SP 800-38D §8.3); split the keyring",
                facts.used
            ),
        ));
    }
    findings
}

fn meets(subject: &str, latest: &LatestRotation) -> Option<Finding> {
    let LatestRotation {
        id,
        kind,
        state,
        replaces_compromised,
        paused_because,
    } = latest;
    let decision = decide_request(Some((*state, *replaces_compromised)));
    let kind = kind.noun();
    if let Some(why) = paused_because.as_ref().filter(|_| state.is_live()) {
        let does = match decision {
            RequestDecision::Join => "join",
            RequestDecision::Supersede | RequestDecision::Start => "supersede",
        };
        let problem = format!(
            "{kind} {id} is paused ({why}), and a request would {does} it; to go on with it: rekey rotations resume {id}"
        );
        return Some(Finding::person(subject, problem));
    }
    let problem = match decision {
        RequestDecision::Join => format!("a request would join {kind} {id}, which is {state}"),
        RequestDecision::Supersede => {
            format!(
                "a request would supersede {kind} {id}, which is {state}, and take its rows along"
            )
        }
        RequestDecision::Start => return None,
    };
    Some(Finding::note(subject, problem))
}

/// What an update of a table sets off beyond its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effects<'a> {
    /// Triggers and rules that fire on an update.
    pub update_triggers: &'a [String],
    /// Those that fire even where triggers are suppressed.
    pub always_triggers: &'a [String],
    /// Other code of the owner's that runs when the table is read or updated.
    pub own_code: &'a [String],
    /// Publications that send updates on.
    pub publications: &'a [String],
    /// Tables and partitions that are published without a replica identity.
    pub unidentified: &'a [String],
    /// Whether its database can suppress triggers for a session.
    pub suppressible: bool,
}

/// The effects that must be declared before our updates may cause them, and were not.
pub fn undeclared(declared: OnUpdate, effects: Effects<'_>) -> Option<String> {
    match declared.triggers {
        None if !effects.update_triggers.is_empty() => Some(format!(
            "has UPDATE triggers or rules that our writes would fire: {}; say on_update = {{ triggers = \"fire\" }} if that is right{}",
            effects.update_triggers.join(", "),
            match effects.suppressible {
                true =>
                    ", or triggers = \"suppress\", which takes GRANT SET ON PARAMETER session_replication_role to the source's role",
                false => "",
            }
        )),
        Some(Triggers::Suppress) if !effects.always_triggers.is_empty() => Some(format!(
            "has UPDATE triggers or rules that fire even where triggers are suppressed (ENABLE ALWAYS or REPLICA): {}; enable them in the ordinary way, or say triggers = \"fire\"",
            effects.always_triggers.join(", ")
        )),
        triggers if triggers != Some(Triggers::Fire) && !effects.own_code.is_empty() => {
            Some(format!(
                "has code that is not the database's own and runs in our sessions, whatever becomes of triggers: {}; take it away, or say on_update = {{ triggers = \"fire\" }} if it is to be trusted like a trigger: a certificate then says so",
                effects.own_code.join(", ")
            ))
        }
        _ if !effects.publications.is_empty() && !declared.publications_accepted => Some(format!(
            "is in publications that would send our writes on, whatever becomes of triggers: {}; say on_update = {{ publications = \"accept\" }} if the subscribers can take every row once more",
            effects.publications.join(", ")
        )),
        _ if !effects.unidentified.is_empty() => Some(format!(
            "is published without a replica identity, so the database refuses every update of {0}: have its owner run ALTER TABLE {0} REPLICA IDENTITY FULL, or give it a primary key, or take it out of the publication{1}",
            effects.unidentified[0],
            match effects.unidentified.len() {
                1 => String::new(),
                parts => format!("; and so with {} more parts", parts - 1),
            }
        )),
        _ => None,
    }
}

/// Values of a protected column that a rotation of its keyring could not move, by what they are.
/// `how` says which values were looked at.
pub fn strange_values(
    subject: &str,
    counts: &[(Found, u64)],
    keyring: &str,
    ours: &HashMap<KeyId, KeyName>,
    how: &str,
) -> Vec<Finding> {
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    for (found, values) in counts.iter().filter(|(_, values)| *values > 0) {
        let kind = match found {
            Found::Empty => continue,
            Found::NotCiphertext => {
                "no ciphertext as the column holds it (plaintext, or written in another way?)"
                    .to_owned()
            }
            Found::Unreadable => {
                "that the database fails to read: they are damaged where they are stored".to_owned()
            }
            Found::Key(id) => match ours.get(id) {
                Some(key) if key.keyring.as_str() == keyring => continue,
                Some(key) => format!("under {key}, a key of another keyring"),
                // Other bytes that start like this name a key too: one line for all of them.
                None => "unknown ciphertext: their first bytes name no key of this deployment"
                    .to_owned(),
            },
        };
        *kinds.entry(kind).or_default() += values;
    }
    let finding = |(kind, values)| {
        let problem = format!(
            "{values} value(s) {kind}; {how}. A rotation would put them in quarantine and leave them as they are"
        );
        Finding::person(subject, problem)
    };
    kinds.into_iter().map(finding).collect()
}

/// Why a column may not be released after a census that counted this; None: it may.
pub fn not_released(counts: &[(Found, u64)], ours: &HashMap<KeyId, KeyName>) -> Option<String> {
    let of = |is_ours: bool| -> u64 {
        let keyed = counts.iter().filter_map(|(found, values)| match found {
            Found::Key(id) => Some((ours.contains_key(id), *values)),
            Found::NotCiphertext | Found::Empty | Found::Unreadable => None,
        });
        keyed
            .filter(|(known, _)| *known == is_ours)
            .map(|(_, values)| values)
            .sum()
    };
    // A value that nobody can read now may be ciphertext once it is restored.
    let unreadable = counts
        .iter()
        .filter(|(found, _)| *found == Found::Unreadable);
    let unreadable: u64 = unreadable.map(|(_, values)| values).sum();
    match (of(true), of(false), unreadable) {
        (0, 0, 0) => None,
        (0, 0, unreadable) => Some(format!(
            "a census counted {unreadable} value(s) that the database fails to read, which may be ciphertext; restore or remove them first"
        )),
        (own, unknown, _) => Some(format!(
            "a census counted {own} value(s) of ciphertext of ours and {unknown} of unknown ciphertext; whoever releases the column loses the key to them. Decrypt or remove them first"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> KeyringFacts {
        KeyringFacts {
            keyring: "phi".to_owned(),
            has_primary: true,
            has_standby: true,
            latest: None,
            used: 0,
            values: Some((1_000, Basis::Catalogue)),
        }
    }

    fn needs(facts: &KeyringFacts) -> Vec<Need> {
        keyring_findings(facts).iter().map(|f| f.need).collect()
    }

    fn latest(state: RotationState, paused: Option<&str>) -> KeyringFacts {
        let latest = LatestRotation {
            id: "r".to_owned(),
            kind: RotationKind::Switch,
            state,
            replaces_compromised: false,
            paused_because: paused.map(str::to_owned),
        };
        KeyringFacts {
            latest: Some(latest),
            ..facts()
        }
    }

    #[test]
    fn nothing_stands_in_the_way_of_a_ready_keyring() {
        assert_eq!(needs(&facts()), []);
        assert_eq!(needs(&latest(RotationState::Completed, None)), []);
        // A rotation that is over predicts nothing, even if it was on hold.
        assert_eq!(
            needs(&latest(RotationState::Cancelled, Some("by os:ana"))),
            []
        );
    }

    #[test]
    fn a_missing_standby_takes_time_and_a_missing_primary_a_person() {
        let no_standby = KeyringFacts {
            has_standby: false,
            ..facts()
        };
        assert_eq!(needs(&no_standby), [Need::Time]);
        let no_primary = KeyringFacts {
            has_primary: false,
            ..facts()
        };
        assert_eq!(needs(&no_primary), [Need::Person]);
    }

    #[test]
    fn what_does_not_fit_under_one_key_is_refused_to_the_value() {
        let with = |used, values| KeyringFacts {
            used,
            values: Some((values, Basis::Counted)),
            ..facts()
        };
        assert_eq!(needs(&with(5, PLAN_LIMIT - 5)), []);
        assert_eq!(needs(&with(5, PLAN_LIMIT - 4)), [Need::Person]);
        assert_eq!(
            needs(&KeyringFacts {
                values: None,
                ..facts()
            }),
            []
        );
    }

    #[test]
    fn a_request_meets_the_rotation_that_is_there() {
        let needs_of = |state, paused| needs(&latest(state, paused));
        assert_eq!(needs_of(RotationState::ReEncrypting, None), [Need::Note]);
        assert_eq!(needs_of(RotationState::Failed, None), [Need::Note]);
        assert_eq!(needs_of(RotationState::Grace, Some("KMS")), [Need::Person]);
        let text = |state| keyring_findings(&latest(state, None))[0].problem.clone();
        assert!(text(RotationState::ReEncrypting).contains("join"));
        assert!(text(RotationState::Grace).contains("supersede rotation r"));
        let mut sweep = latest(RotationState::Verifying, None);
        sweep.latest.as_mut().unwrap().kind = RotationKind::Sweep;
        let problem = &keyring_findings(&sweep)[0].problem;
        assert!(problem.contains("supersede sweep r"), "{problem}");
    }

    #[test]
    fn effects_must_be_said() {
        let [touch, none] = [vec!["touch".to_owned()], Vec::new()];
        let effects = |triggers, always, publications| Effects {
            update_triggers: triggers,
            always_triggers: always,
            own_code: &[],
            publications,
            unidentified: &[],
            suppressible: true,
        };
        let declared = |triggers, publications_accepted| OnUpdate {
            triggers,
            publications_accepted,
        };
        let quiet = effects(&none, &none, &none);
        assert_eq!(undeclared(declared(None, false), quiet), None);
        let firing = effects(&touch, &none, &none);
        let may_suppress = |suppressible| {
            let effects = Effects {
                suppressible,
                ..firing
            };
            let problem = undeclared(declared(None, false), effects).unwrap();
            problem.contains("session_replication_role")
        };
        // Nobody is advised to do what their database cannot.
        assert_eq!([true, false].map(may_suppress), [true, false]);
        assert!(undeclared(declared(Some(Triggers::Fire), false), firing).is_none());
        assert!(undeclared(declared(Some(Triggers::Suppress), false), firing).is_none());
        let always = effects(&touch, &touch, &none);
        assert!(undeclared(declared(Some(Triggers::Suppress), false), always).is_some());
        let published = effects(&none, &none, &touch);
        assert!(undeclared(declared(Some(Triggers::Fire), false), published).is_some());
        assert!(undeclared(declared(None, true), published).is_none());
        // Suppressing triggers stops no other code.
        let code = Effects {
            own_code: &touch,
            ..quiet
        };
        assert!(undeclared(declared(None, false), code).is_some());
        assert!(undeclared(declared(Some(Triggers::Suppress), false), code).is_some());
        assert!(undeclared(declared(Some(Triggers::Fire), false), code).is_none());
        // Whatever is said, that one cannot be updated.
        let unidentified = Effects {
            unidentified: &touch,
            ..published
        };
        let problem = undeclared(declared(None, true), unidentified).unwrap();
        assert!(problem.contains("ALTER TABLE touch REPLICA IDENTITY FULL"));
    }

    fn keys() -> HashMap<KeyId, KeyName> {
        let key = |id, name: &str| (KeyId::new(id), name.parse().unwrap());
        HashMap::from([key(1, "phi/1"), key(2, "phi/2"), key(9, "other/1")])
    }

    #[test]
    fn only_values_of_the_keyring_are_no_finding() {
        let found = |id, values| (Found::Key(KeyId::new(id)), values);
        let of = |counts: &[_]| strange_values("c", counts, "phi", &keys(), "all were counted");
        assert_eq!(
            of(&[found(1, 5), found(2, 5), (Found::NotCiphertext, 0)]),
            []
        );
        let strange = of(&[
            found(1, 5),
            found(7, 1),
            found(8, 2),
            found(9, 3),
            (Found::NotCiphertext, 4),
        ]);
        let counted: Vec<_> = strange.iter().map(|f| &f.problem[..1]).collect();
        assert_eq!(counted, ["4", "3", "3"]);
        assert!(strange.iter().all(|f| f.need == Need::Person));
    }

    #[test]
    fn a_column_is_released_only_where_nothing_names_a_key() {
        assert_eq!(not_released(&[], &keys()), None);
        assert_eq!(not_released(&[(Found::NotCiphertext, 5)], &keys()), None);
        let damaged = not_released(&[(Found::Unreadable, 1)], &keys());
        assert!(damaged.is_some_and(|why| why.contains("1 value(s) that the database fails")));
        assert_eq!(
            not_released(&[(Found::Key(KeyId::new(1)), 0)], &keys()),
            None
        );
        for id in [1, 9, 77] {
            let counted = [(Found::NotCiphertext, 5), (Found::Key(KeyId::new(id)), 1)];
            assert!(not_released(&counted, &keys()).is_some(), "{id}");
        }
    }
}
