//! How domain types stand in columns: as their text, as JSON, or as a number.

use std::{fmt::Display, str::FromStr};

use rekey_domain::KeyId;
use sea_orm::{
    ColIdx, DbErr, QueryResult, TryFromU64, TryGetError, TryGetable, Value,
    sea_query::{ArrayType, ColumnType, Nullable, ValueType, ValueTypeErr},
};
use serde::{Serialize, de::DeserializeOwned};

/// A value that stands in its column as it is displayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text<T>(pub T);

/// A value that stands in its column as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Json<T>(pub T);

trait Column: Sized {
    fn write(&self) -> String;
    fn read(text: &str) -> Result<Self, String>;
}

impl<T: Display + FromStr<Err: Display>> Column for Text<T> {
    fn write(&self) -> String {
        self.0.to_string()
    }

    fn read(text: &str) -> Result<Self, String> {
        text.parse()
            .map(Self)
            .map_err(|error: T::Err| error.to_string())
    }
}

impl<T: Serialize + DeserializeOwned> Column for Json<T> {
    fn write(&self) -> String {
        serde_json::to_string(&self.0)
            .expect("stored types have string keys and no failing serializer")
    }

    fn read(text: &str) -> Result<Self, String> {
        serde_json::from_str(text)
            .map(Self)
            .map_err(|error| error.to_string())
    }
}

/// SeaORM asks for four traits a column type; both kinds answer them in the same way.
macro_rules! text_column {
    ($name:ident, $($bounds:tt)+) => {
        impl<T: $($bounds)+> From<$name<T>> for Value {
            fn from(value: $name<T>) -> Self {
                Self::from(value.write())
            }
        }

        impl<T: $($bounds)+> TryGetable for $name<T> {
            fn try_get_by<I: ColIdx>(row: &QueryResult, index: I) -> Result<Self, TryGetError> {
                let text = String::try_get_by(row, index)?;
                Self::read(&text).map_err(|error| TryGetError::DbErr(DbErr::Type(error)))
            }
        }

        impl<T: $($bounds)+> ValueType for $name<T> {
            fn try_from(value: Value) -> Result<Self, ValueTypeErr> {
                let text = <String as ValueType>::try_from(value)?;
                Self::read(&text).map_err(|_| ValueTypeErr)
            }

            fn type_name() -> String {
                stringify!($name).to_owned()
            }

            fn array_type() -> ArrayType {
                ArrayType::String
            }

            fn column_type() -> ColumnType {
                ColumnType::Text
            }
        }

        impl<T: $($bounds)+> Nullable for $name<T> {
            fn null() -> Value {
                Value::String(None)
            }
        }
    };
}

text_column!(Text, Display + FromStr<Err: Display>);
text_column!(Json, Serialize + DeserializeOwned);

/// A key's id; its column has 64 bits, as databases have no unsigned number of 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id(pub KeyId);

impl Id {
    fn read(number: i64) -> Result<Self, DbErr> {
        let id = <u32 as TryFrom<i64>>::try_from(number);
        let expected = |_| DbErr::Type(format!("expected a key id, of 32 bits; found {number}"));
        id.map(|id| Self(KeyId::new(id))).map_err(expected)
    }
}

impl From<KeyId> for Id {
    fn from(id: KeyId) -> Self {
        Self(id)
    }
}

impl From<Id> for Value {
    fn from(Id(id): Id) -> Self {
        Self::from(i64::from(id.value()))
    }
}

impl TryGetable for Id {
    fn try_get_by<I: ColIdx>(row: &QueryResult, index: I) -> Result<Self, TryGetError> {
        Self::read(i64::try_get_by(row, index)?).map_err(TryGetError::DbErr)
    }
}

impl ValueType for Id {
    fn try_from(value: Value) -> Result<Self, ValueTypeErr> {
        Self::read(<i64 as ValueType>::try_from(value)?).map_err(|_| ValueTypeErr)
    }

    fn type_name() -> String {
        "Id".to_owned()
    }

    fn array_type() -> ArrayType {
        ArrayType::BigInt
    }

    fn column_type() -> ColumnType {
        ColumnType::BigInteger
    }
}

impl Nullable for Id {
    fn null() -> Value {
        Value::BigInt(None)
    }
}

impl TryFromU64 for Id {
    fn try_from_u64(number: u64) -> Result<Self, DbErr> {
        Self::read(<i64 as TryFrom<u64>>::try_from(number).unwrap_or(i64::MAX))
    }
}
