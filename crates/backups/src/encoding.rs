//! Bytes and times in JSON, each in one way only.

use chrono::{DateTime, SecondsFormat, Utc};

/// Bytes as standard base64 with padding, of the length that their type has.
pub(crate) mod base64 {
    use std::borrow::Cow;

    use rekey_envelope::{decode_base64, encode_base64};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(
        bytes: &impl AsRef<[u8]>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(&encode_base64(bytes.as_ref()))
    }

    pub(crate) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: TryFrom<Vec<u8>>,
        D: Deserializer<'de>,
    {
        let text = Cow::<str>::deserialize(from)?;
        let bytes = decode_base64(&text).map_err(D::Error::custom)?;
        T::try_from(bytes).map_err(|_| D::Error::custom("a length that it never has"))
    }
}

/// A time as RFC 3339 in UTC, with six digits of a second and `Z`.
pub(crate) fn time_text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Reads what [`time_text`] writes, and nothing else.
pub(crate) fn read_time(text: &str) -> Option<DateTime<Utc>> {
    let time = DateTime::parse_from_rfc3339(text).ok()?.to_utc();
    (time_text(time) == text).then_some(time)
}
