//! The form that every wire type shares, so that each is only a list of names: the keys are
//! Docker's, `null` in a request means the default, unknown keys are ignored, and a field marked
//! `omitempty` is left out of an answer when it is empty, exactly where Docker's own types do so.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// Reads a value, taking `null` for the type's default.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// What `omitempty` means for a type: the value that is left out of the JSON.
pub(crate) trait Vacant {
    fn is_vacant(&self) -> bool;
}

/// The function form of [`Vacant::is_vacant`], for serde's attribute.
pub(crate) fn vacant<T: Vacant>(value: &T) -> bool {
    value.is_vacant()
}

impl Vacant for String {
    fn is_vacant(&self) -> bool {
        self.is_empty()
    }
}

impl Vacant for bool {
    fn is_vacant(&self) -> bool {
        !*self
    }
}

impl<T> Vacant for Vec<T> {
    fn is_vacant(&self) -> bool {
        self.is_empty()
    }
}

impl<K, V> Vacant for BTreeMap<K, V> {
    fn is_vacant(&self) -> bool {
        self.is_empty()
    }
}

impl<T> Vacant for Option<T> {
    fn is_vacant(&self) -> bool {
        self.is_none()
    }
}

macro_rules! vacant_when_zero {
    ($($number:ty),*) => {
        $(impl Vacant for $number {
            fn is_vacant(&self) -> bool {
                *self == 0
            }
        })*
    };
}

vacant_when_zero!(i64, u64, u32, u16, i32);

/// Declares wire structs. Each field is `name: Type = "Key"`, followed by `omitempty` where
/// Docker leaves the empty value out, or `name: Type = flat` for an embedded object.
macro_rules! wire {
    ($($(#[$meta:meta])* pub struct $name:ident { $($body:tt)* })*) => {
        $(wire!(@fields [$(#[$meta])*] $name [] $($body)*);)*
    };
    (@fields [$($meta:tt)*] $name:ident [$($done:tt)*] $(#[$doc:meta])* $field:ident : $type:ty = flat, $($rest:tt)*) => {
        wire!(@fields [$($meta)*] $name [$($done)*
            $(#[$doc])*
            #[doc = "The fields of the embedded object, at this level of the JSON."]
            #[serde(flatten)]
            pub $field: $type,
        ] $($rest)*);
    };
    (@fields [$($meta:tt)*] $name:ident [$($done:tt)*] $(#[$doc:meta])* $field:ident : $type:ty = $key:literal omitempty, $($rest:tt)*) => {
        wire!(@fields [$($meta)*] $name [$($done)*
            $(#[$doc])*
            #[doc = concat!("`", $key, "`, left out when empty.")]
            #[serde(rename = $key, deserialize_with = "crate::wire::null_is_default", skip_serializing_if = "crate::wire::vacant")]
            pub $field: $type,
        ] $($rest)*);
    };
    (@fields [$($meta:tt)*] $name:ident [$($done:tt)*] $(#[$doc:meta])* $field:ident : $type:ty = $key:literal, $($rest:tt)*) => {
        wire!(@fields [$($meta)*] $name [$($done)*
            $(#[$doc])*
            #[doc = concat!("`", $key, "`.")]
            #[serde(rename = $key, deserialize_with = "crate::wire::null_is_default")]
            pub $field: $type,
        ] $($rest)*);
    };
    (@fields [$($meta:tt)*] $name:ident [$($done:tt)*]) => {
        $($meta)*
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct $name { $($done)* }
    };
}
