//! Bytes and times in JSON, each in one way only.

use chrono::{DateTime, SecondsFormat, Utc};
use rekey_envelope::decode_base64;

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

/// 32 bytes of a hash in lower-case hex.
pub(crate) mod hash {
    use std::borrow::Cow;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(hash: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(hash))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
        let text = Cow::<str>::deserialize(from)?;
        let mut hash = [0; 32];
        hex::decode_to_slice(&*text, &mut hash).map_err(D::Error::custom)?;
        Ok(hash)
    }
}

/// A time in JSON.
pub(crate) mod time {
    use std::borrow::Cow;

    use chrono::{DateTime, Utc};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::{read_time, time_text};

    pub(crate) fn serialize<S: Serializer>(time: &DateTime<Utc>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&time_text(*time))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<DateTime<Utc>, D::Error> {
        let text = Cow::<str>::deserialize(from)?;
        read_time(&text).ok_or_else(|| D::Error::custom("no time in its one way"))
    }

    /// A time that may be absent, never null.
    pub(crate) mod optional {
        use chrono::{DateTime, Utc};
        use serde::{Deserializer, Serializer};

        pub(crate) fn serialize<S: Serializer>(
            time: &Option<DateTime<Utc>>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            match time {
                Some(time) => super::serialize(time, to),
                None => to.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<DateTime<Utc>>, D::Error> {
            super::deserialize(from).map(Some)
        }
    }
}

/// The bytes of base64url without padding that a JWS was already found to have.
pub(crate) fn decode_base64url(text: &str) -> Option<Vec<u8>> {
    let mut standard = text.replace('-', "+").replace('_', "/");
    while !standard.len().is_multiple_of(4) {
        standard.push('=');
    }
    decode_base64(&standard).ok()
}
