//! Why a value could not be re-encrypted.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString};

/// The reason a row is in quarantine; the row itself is left as it was.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    Display,
    EnumString,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case", parse_err_ty = String, parse_err_fn = no_quarantine_reason)]
pub enum QuarantineReason {
    /// Its key id is unknown, or its key is gone.
    MissingKey,
    /// Its key does not open it in its place: its bytes were changed, or it belongs to a place that nobody tried. Older
    /// programs called this `corrupt`.
    #[serde(alias = "corrupt")]
    #[strum(to_string = "unopened", serialize = "corrupt")]
    Unopened,
    /// It belongs to another place of the page that was read, and opens there.
    WrongContext,
    /// A column that it is bound to is NULL, or holds what binds nothing: it opens nowhere until that is mended. Older
    /// programs call it [`Self::WrongContext`].
    Unbound,
    /// Its key belongs to another keyring.
    OtherKeyring,
    /// Not ciphertext of our format.
    NotCiphertext,
    /// It was opened and sealed anew, and a trigger or rule of its table kept the update from its row.
    NotWritten,
    /// Its database cannot read it.
    Unreadable,
    /// Its key belongs to the keyring and was never primary: nobody of ours wrote it.
    NeverActive,
    /// Its key is compromised, and what was written in time under it is moved: it was forged, stored late, or put back.
    WrittenAfterCompromise,
}

fn no_quarantine_reason(text: &str) -> String {
    format!("quarantine reason {text:?} is not one of ours")
}

impl QuarantineReason {
    /// Every reason.
    pub const ALL: [Self; 10] = [
        Self::MissingKey,
        Self::Unopened,
        Self::WrongContext,
        Self::Unbound,
        Self::OtherKeyring,
        Self::NotCiphertext,
        Self::NotWritten,
        Self::Unreadable,
        Self::NeverActive,
        Self::WrittenAfterCompromise,
    ];

    /// The nearest of the reasons that every program of ours reads; programs from before the others know no more.
    #[must_use]
    pub fn in_older_words(self) -> Self {
        match self {
            Self::NeverActive | Self::WrittenAfterCompromise => Self::MissingKey,
            Self::Unbound => Self::WrongContext,
            known => known,
        }
    }

    /// What it says of the value, in a sentence.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::MissingKey => "its first bytes name a key that is not there or is gone",
            Self::Unopened => {
                "its key does not open it here: its bytes were changed, or it was encrypted for another row or column"
            }
            Self::WrongContext => "it was encrypted for another row or column and copied here",
            Self::Unbound => {
                "a column that it is bound to is NULL, or holds what binds nothing, so it opens nowhere"
            }
            Self::OtherKeyring => "it was encrypted under a key of another keyring",
            Self::NotCiphertext => {
                "it is not ciphertext of ours as this column holds it: it was never encrypted, or it is ciphertext written in another way, as base64 text among bytes, hex, or with blanks around it"
            }
            Self::NotWritten => {
                "a trigger or rule of its table kept the update from its row, which is as it was"
            }
            Self::Unreadable => "its database fails to read it; it is damaged where it is stored",
            Self::NeverActive => {
                "its key was never primary, so nobody of ours wrote it: whoever knows the key forged it"
            }
            Self::WrittenAfterCompromise => {
                "its key is compromised, and its rows were moved before this was found: it was forged, stored late, or put back"
            }
        }
    }

    /// What a person can do; then it can be tried again.
    pub fn what_helps(self) -> &'static str {
        match self {
            Self::MissingKey => "find out which deployment wrote it; restore the value or its key",
            Self::Unopened => {
                "try rekey decrypt with --bind of the row that it may come from: what opens belongs back there; what opens nowhere was changed, so restore it from a backup of the source, or set it anew"
            }
            Self::WrongContext => "put back what belongs there, from the row it was taken from",
            Self::Unbound => {
                "put back into that column what stood there when the value was encrypted"
            }
            Self::OtherKeyring => {
                "try rekey decrypt with --column of a column of that keyring, and --bind: what opens belongs there; else have the application write it anew, under the column's keyring"
            }
            Self::NotCiphertext => {
                "try first whether rekey decrypt opens it; what it opens is to be stored as the column holds the others, what was never encrypted is to be written anew, through encrypt"
            }
            Self::NotWritten => {
                "have the trigger let updates of protected columns through, or, on PostgreSQL, say triggers = \"suppress\" for the table in rekey.toml and apply"
            }
            Self::Unreadable => {
                "restore the row from a backup of the source, and look at the server's log and its disk"
            }
            Self::NeverActive => {
                "restore the value from a backup of the source, and find out who could write to the row"
            }
            Self::WrittenAfterCompromise => {
                "find out who wrote it, and when; where it is genuine, name it by its id, and it is moved"
            }
        }
    }
}

/// Whether so many of a column's values are in quarantine that they must have one cause, such as a renamed table or a
/// store from a backup. Then a person looks before the pass goes on.
pub fn stands_out(met: u64, in_quarantine: u64) -> bool {
    let many = in_quarantine >= 100 && u128::from(in_quarantine) * 100 > u128::from(met);
    let all = met >= 20 && in_quarantine >= met;
    many || all
}

/// Whether a column has so many fewer values than before that they must have one cause, such as a URL that leads to a copy
/// of the database. Then a person looks before a rotation says that nothing is left.
pub fn fewer_stand_out(before: u64, now: u64) -> bool {
    before >= 100 && now < before / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_of_a_column_stands_out_and_single_values_do_not() {
        for (met, in_quarantine) in [(20, 20), (21, 21), (9_999, 100), (200, 100), (100, 100)] {
            assert!(stands_out(met, in_quarantine), "{in_quarantine} of {met}");
        }
        for (met, in_quarantine) in [
            (0, 0),
            (19, 19),
            (20, 19),
            (300, 99),
            (10_000, 100),
            (10_000, 0),
        ] {
            assert!(!stands_out(met, in_quarantine), "{in_quarantine} of {met}");
        }
    }

    #[test]
    fn most_of_a_column_gone_stands_out() {
        assert!(fewer_stand_out(400, 10) && fewer_stand_out(100, 0));
        for (before, now) in [(400, 200), (99, 0), (100, 50), (10, 400)] {
            assert!(!fewer_stand_out(before, now), "{now} of {before}");
        }
    }

    #[test]
    fn a_reason_reads_as_it_is_written_and_an_older_name_too() {
        for reason in QuarantineReason::ALL {
            assert_eq!(reason.to_string().parse(), Ok(reason));
            let older = reason.in_older_words();
            assert_eq!(older.in_older_words(), older);
        }
        assert_eq!("corrupt".parse(), Ok(QuarantineReason::Unopened));
    }
}
