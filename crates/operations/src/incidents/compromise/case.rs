//! One report being answered, in its unit: keyring, key, rotation, batches, incident, and the audit log last.

use chrono::TimeDelta;
use rekey_domain::{
    IncidentKind, KeyName, KeyState, OnCompromise, Principal, PrincipalKind, Purpose, Response,
    RotationKind, RotationState,
};
use rekey_store::{
    Unit,
    audit::{Action, AuditPen, Record},
    incidents::{self, Exposure, Incident, NewIncident},
    keyrings::Keyring,
    keys::{
        self, Key,
        reported_masters::{self, ReportedMaster},
    },
    rotations::{self, Rotation, emergency},
};
use serde_json::json;
use uuid::Uuid;

use super::{
    exposure::exposure,
    report::{Report, Reported},
};
use crate::OperationError;

/// A stolen password uses up one standby in this time, and no more.
const MACHINE_SWITCHES_EVERY: TimeDelta = TimeDelta::hours(1);

/// What the answer is made of.
pub struct Case<'a> {
    pub unit: Unit,
    pub pen: AuditPen,
    pub withheld: Option<String>,
    pub keyring: Keyring,
    pub key: Key,
    pub latest: Option<Rotation>,
    /// The rotation under way that moves what is under the key for an earlier report.
    pub answering: Option<Uuid>,
    pub report: &'a Report,
    /// A master key that it was under is reported: others of its keyring are known too, and it goes on until it is
    /// replaced.
    pub of_master: Option<&'a ReportedMaster>,
    pub principal: &'a Principal,
}

/// What became of key and rotation.
#[derive(Default)]
struct Done {
    state: Option<KeyState>,
    rotation: Option<Uuid>,
    replaced_by: Option<KeyName>,
    /// Nothing was done: a person decides.
    held: bool,
    notes: Vec<String>,
}

impl Done {
    fn held(why: String) -> Self {
        Self {
            held: true,
            notes: vec![why],
            ..Self::default()
        }
    }
}

impl Case<'_> {
    /// Does it, and commits.
    pub async fn answer(self, response: Response) -> Result<Reported, OperationError> {
        self.stop_others().await?;
        // Locked before the audit log's head, in the same order as when a person takes the incident up.
        let (incident, again) = self.incident().await?;
        let done = self.carry_out(response, incident).await?;
        let took = done.state == Some(KeyState::Compromised) || done.rotation.is_some();
        let acted = took && takes_a_key(response);
        let acted = acted.then_some(self.principal);
        let of_machine = is_machine(self.principal) && self.uses_the_hour(response);
        incidents::note_answer(&self.unit, incident, done.rotation, (acted, of_machine)).await?;
        self.write_down(incident, again, response, &done).await?;
        let reported = Reported {
            incident,
            again,
            key: self.key.name(&self.keyring),
            state: done.state.unwrap_or(self.key.state),
            replaced_by: done.replaced_by,
            rotation: match done.rotation {
                Some(rotation) => Some(rotation),
                None => self.rotation_of(incident).await?,
            },
            notes: self.notes(response, done.notes),
        };
        self.unit.commit().await?;
        Ok(reported)
    }

    /// What else of the keyring was under a reported master key, and encrypts nothing, is as well known as the key.
    async fn stop_others(&self) -> Result<(), OperationError> {
        if let Some(reported) = self.of_master {
            let is_other = |key: &Key| key.id != self.key.id;
            reported_masters::stop_exposed(&self.unit, &self.keyring, reported, is_other).await?;
        }
        Ok(())
    }

    /// The rotation that answers an incident already, while it has something to do.
    async fn rotation_of(&self, incident: Uuid) -> Result<Option<Uuid>, OperationError> {
        let answers = incidents::by_id(self.unit.db(), incident)
            .await?
            .rotation_id;
        let Some(answers) = answers else {
            return Ok(None);
        };
        let rotation = rotations::by_id(self.unit.db(), answers).await?;
        Ok(rotation.state.is_live().then_some(answers))
    }

    /// The incident of an earlier report that is not resolved, or a new one; and whether it is an earlier one.
    async fn incident(&self) -> Result<(Uuid, bool), OperationError> {
        for earlier in incidents::of_key(self.unit.db(), self.key.id).await? {
            let earlier = incidents::lock(&self.unit, earlier.id).await?;
            if !earlier.state.is_open() {
                continue;
            }
            if let Some(since) = self.report.since {
                incidents::known_since(&self.unit, &earlier, since).await?;
                keys::known_since(&self.unit, &self.key, since).await?;
            }
            self.bring_exposure_up_to_date(&earlier).await?;
            return Ok((earlier.id, true));
        }
        let new = NewIncident {
            id: self.unit.new_id(),
            kind: IncidentKind::Compromised,
            keyring: self.keyring.id,
            key: self.key.id,
            since: self.report.since,
            exposure: exposure(self.unit.db(), &self.keyring, &self.key).await?,
            withheld: self.withheld.clone(),
        };
        let opened = incidents::open(&self.unit, new, self.principal).await?;
        Ok((opened.id, false))
    }

    /// Notes what a census found under the key since the first report, where nothing was known then. That none is left
    /// is no exposure, and a count from after a rotation began to move them is of what was left.
    async fn bring_exposure_up_to_date(&self, earlier: &Incident) -> Result<(), OperationError> {
        let is_something = |found: &Exposure| found.values > 0;
        if earlier.exposure.as_ref().is_some_and(is_something) || earlier.rotation_id.is_some() {
            return Ok(());
        }
        let known = exposure(self.unit.db(), &self.keyring, &self.key).await?;
        if let Some(known) = known.filter(is_something) {
            incidents::note_exposure(&self.unit, earlier.id, known).await?;
        }
        Ok(())
    }

    async fn carry_out(&self, response: Response, incident: Uuid) -> Result<Done, OperationError> {
        match response {
            Response::Note => Ok(Done::default()),
            // What is under way moves it for this incident too: of two reports the first may be resolved.
            Response::Again => Ok(Done {
                rotation: self.answering,
                ..Done::default()
            }),
            Response::Replace { supersede } => self.replace(supersede, incident).await,
            Response::Sweep { supersede } => self.sweep(supersede, incident).await,
            Response::Hurry => self.hurry(incident).await,
            Response::Restart | Response::OrderStandby => self.drop_standby().await,
        }
    }

    /// Another key takes the primary's place now, or as soon as there is one.
    async fn replace(&self, supersede: bool, incident: Uuid) -> Result<Done, OperationError> {
        let unit = &self.unit;
        let standby = keys::standby(unit.db(), self.keyring.id).await?;
        // A failover of the store may lose one that was just made: the rotation waits until it is older.
        let is_settled = |key: &Key| key.settles_at(unit.db()).is_none_or(|at| at <= unit.now());
        let standby = standby.filter(is_settled);
        if let Some(why) = self.held_for_a_person().await? {
            self.mark().await?;
            return Ok(Done::held(why));
        }
        let earlier = self.latest.as_ref().filter(|_| supersede);
        let on_hold = earlier.and_then(|live| self.on_hold_by_a_person(live));
        if let Some(earlier) = earlier {
            rotations::supersede(unit, earlier).await?;
        }
        let stops = self.of_master.is_none() && stops(&self.keyring);
        let stopped = standby.is_some() || stops;
        if stopped {
            keys::compromise(unit, &self.keyring, &self.key, self.report.since).await?;
        } else {
            self.mark().await?;
        }
        let started = emergency::start(unit, &self.keyring, incident, self.principal).await?;
        if let Some(earlier) = earlier {
            incidents::hand_over(unit, earlier.id, started.id).await?;
        }
        let replaced_by = match standby {
            Some(_) => rotations::switch(unit, &self.pen, &started, &self.keyring).await?,
            None => {
                rotations::keys_changed(unit, &self.keyring).await?;
                None
            }
        };
        let mut notes = self.hold_on(started.id, on_hold).await?;
        if replaced_by.is_none() {
            notes.push(self.no_standby(stopped));
        }
        Ok(Done {
            state: stopped.then_some(KeyState::Compromised),
            rotation: Some(started.id),
            replaced_by,
            notes,
            ..Done::default()
        })
    }

    /// Notes that the key was reported, and lets it be.
    async fn mark(&self) -> Result<(), OperationError> {
        if self.key.reported_at.is_none() {
            keys::note_report(&self.unit, &self.key, self.report.since).await?;
        }
        Ok(())
    }

    fn no_standby(&self, stopped: bool) -> String {
        let name = &self.keyring.name;
        let meanwhile = match stopped {
            true => "nothing can be encrypted",
            false => "the key goes on encrypting",
        };
        let made = "until the KMS has made one, which is asked for every 30 s";
        // Where nothing can be lost a key is used at once.
        match self.key.settles_at(self.unit.db()) {
            None => format!("keyring {name} has no standby: {meanwhile} {made}"),
            Some(_) => format!(
                "keyring {name} has no standby that is 10 s old: {meanwhile} {made}, and a failover of the store cannot lose it"
            ),
        }
    }

    /// What is left under a key that was replaced before is moved by a sweep of all columns.
    async fn sweep(&self, supersede: bool, incident: Uuid) -> Result<Done, OperationError> {
        let unit = &self.unit;
        self.stop().await?;
        rotations::tell(unit, &self.keyring).await?;
        let earlier = self.latest.as_ref().filter(|_| supersede);
        let on_hold = earlier.and_then(|live| self.on_hold_by_a_person(live));
        if let Some(earlier) = earlier {
            rotations::supersede(unit, earlier).await?;
        }
        let started = emergency::sweep(unit, &self.keyring, incident, self.principal).await?;
        if let Some(earlier) = earlier {
            incidents::hand_over(unit, earlier.id, started.id).await?;
        }
        let notes = self.hold_on(started.id, on_hold).await?;
        Ok(Done {
            state: Some(KeyState::Compromised),
            rotation: Some(started.id),
            notes,
            ..Done::default()
        })
    }

    /// Stops the key, if no earlier report did.
    async fn stop(&self) -> Result<(), OperationError> {
        if self.key.state == KeyState::Compromised {
            return Ok(());
        }
        let (unit, since) = (&self.unit, self.report.since);
        Ok(keys::compromise(unit, &self.keyring, &self.key, since).await?)
    }

    /// The rotation under way moves it.
    async fn hurry(&self, incident: Uuid) -> Result<Done, OperationError> {
        let unit = &self.unit;
        self.stop().await?;
        rotations::tell(unit, &self.keyring).await?;
        let live = self.latest.as_ref().expect("what hurries is under way");
        emergency::hurry(unit, live, incident).await?;
        let on_hold = self.on_hold_by_a_person(live);
        let notes = self.hold_on(live.id, on_hold).await?;
        Ok(Done {
            state: Some(KeyState::Compromised),
            rotation: Some(live.id),
            notes,
            ..Done::default()
        })
    }

    /// Drops a standby, whoever reports it. No values are under it, so it is never used, and a rotation that was about to
    /// use it waits for another.
    async fn drop_standby(&self) -> Result<Done, OperationError> {
        let unit = &self.unit;
        if self.is_awaited()
            && let Some(why) = self.held_for_a_person().await?
        {
            self.mark().await?;
            return Ok(Done::held(why));
        }
        keys::compromise(unit, &self.keyring, &self.key, self.report.since).await?;
        let distributing = self.latest.as_ref().filter(|live| {
            live.kind == RotationKind::Switch && live.state == RotationState::Distributing
        });
        if let Some(live) = distributing.filter(|live| live.target_key_id == Some(self.key.id)) {
            rotations::restart(unit, live).await?;
        }
        rotations::keys_changed(unit, &self.keyring).await?;
        Ok(Done {
            state: Some(KeyState::Compromised),
            ..Done::default()
        })
    }

    /// Whether what a machine has done so is all that machines have done in an hour. A standby that nobody waits for is
    /// made again, so whoever has it dropped keeps no report from being believed.
    fn uses_the_hour(&self, response: Response) -> bool {
        match response {
            Response::Restart | Response::OrderStandby => self.is_awaited(),
            _ => true,
        }
    }

    /// Whether an emergency waits for this standby, which was made for it: a machine that has each of them dropped would
    /// keep the keyring from encrypting.
    fn is_awaited(&self) -> bool {
        let latest = self.latest.as_ref();
        let waits = latest.filter(|latest| latest.lacks_its_key());
        waits.is_some_and(|waits| self.key.created_at >= waits.requested_at)
    }

    /// Why a machine's report switches nothing now.
    async fn held_for_a_person(&self) -> Result<Option<String>, OperationError> {
        if !is_machine(self.principal) {
            return Ok(None);
        }
        let since = self.unit.now() - MACHINE_SWITCHES_EVERY;
        let switched = incidents::machine_acted(self.unit.db(), self.keyring.id, since).await?;
        Ok(switched.then(|| {
            let key = self.key.name(&self.keyring);
            format!(
                "the report of a machine had a key of this keyring stopped less than an hour ago, so this one stops none: where it is true, a person says rekey compromise {key} --reason …"
            )
        }))
    }

    /// Why a person put the rotation on hold, if that keeps a machine from letting it go on.
    fn on_hold_by_a_person(&self, live: &Rotation) -> Option<String> {
        let because = live.paused_because.as_ref().filter(|_| live.paused)?;
        (is_machine(self.principal) && live.is_paused_by_a_person()).then(|| because.clone())
    }

    /// Puts the new rotation on hold for the reason why a person held the old one, if there is one. Returns a note on
    /// that.
    async fn hold_on(
        &self,
        rotation: Uuid,
        why: Option<String>,
    ) -> Result<Vec<String>, OperationError> {
        let Some(why) = why else {
            return Ok(Vec::new());
        };
        let goes_on = rotations::by_id(self.unit.db(), rotation).await?;
        rotations::pause(&self.unit, &goes_on, &why).await?;
        Ok(vec![format!(
            "a person put the rotation on hold, and no machine lets it go on: rekey rotations resume {rotation}"
        )])
    }

    /// The reason goes into the details of the incident's entry, which are sealed, and nowhere else.
    async fn write_down(
        &self,
        incident: Uuid,
        again: bool,
        response: Response,
        done: &Done,
    ) -> Result<(), OperationError> {
        let key = self.key.name(&self.keyring).to_string();
        let Report { reason, since, .. } = self.report;
        if !again || done.state.is_some() {
            let record = Record {
                action: Action::KeyCompromised,
                subject: &key,
                outcome: match done.held {
                    true => "held",
                    false => "done",
                },
                details: json!({
                    "key_id": self.key.id,
                    "incident": incident,
                    "was": self.key.state,
                    "response": response,
                    "rotation": done.rotation,
                }),
            };
            self.pen.append(&self.unit, record).await?;
        }
        let action = match again {
            true => Action::IncidentNoted,
            false => Action::IncidentOpened,
        };
        let record = Record {
            action,
            subject: &incident.to_string(),
            outcome: "done",
            details: json!({ "reason": reason, "since": since, "key": key }),
        };
        Ok(self.pen.append(&self.unit, record).await?)
    }

    fn notes(&self, response: Response, mut notes: Vec<String>) -> Vec<String> {
        let reads_rows = matches!(response, Response::Sweep { .. } | Response::Hurry);
        if reads_rows && self.key.closed_at.is_some() {
            notes.push(format!(
                "the values of {} were moved before, so what is found under it now is not moved: rekey quarantine list --reason written-after-compromise",
                self.key.name(&self.keyring)
            ));
        }
        if let Some(why) = &self.withheld {
            notes.push(format!(
                "the reason could not be sealed, so it was not kept: {why}"
            ));
        }
        notes
    }
}

/// Whether a report takes a key from the keyring that it encrypts with, or would have.
fn takes_a_key(response: Response) -> bool {
    matches!(
        response,
        Response::Replace { .. } | Response::Restart | Response::OrderStandby
    )
}

/// The AUDIT keyring always goes on until it has another key, as without one no audit entry can be written.
pub(super) fn stops(keyring: &Keyring) -> bool {
    keyring.purpose != Purpose::Audit && keyring.policy.on_compromise == OnCompromise::Stop
}

/// Whether a program reports, and no person.
fn is_machine(principal: &Principal) -> bool {
    principal.kind == PrincipalKind::Amqp
}
