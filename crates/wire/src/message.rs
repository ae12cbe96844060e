//! The table macro. One table per API lists its structures and their fields; struct, defaults, size, encode and decode
//! follow from it and from nothing else.
//!
//! ```text
//! message! {
//!     Fetch, "4-18", flexible "12+";          // the key, the versions that decode, the flexible ones
//!
//!     /// What the structure is.
//!     FetchTopic {
//!         topic: Text => "0-12", ignorable();                 // name: type => versions, what else there is to say
//!         partitions: Vec<FetchPartition> => "0+";            // defaults are those of the type …
//!         session_epoch: i32 = -1 => "7+", ignorable();       // … or written out
//!         cluster_id: Option<Text> => "12+", nullable("12+"), tagged(0, "12+"), ignorable();
//!     }
//! }
//! ```
//!
//! Tagged fields stand in the order of their tags. `Request` and `Response` are the messages.

use bytes::Bytes;

use crate::api::ApiKey;
use crate::codec::Wire;
use crate::encode::EncodeError;
use crate::field::{At, Field, Versions};
use crate::reader::{DecodeError, Reader};
use crate::rope::Rope;

/// A request or a response of the protocol, without its header.
pub trait Message: Sized {
    /// The API that it belongs to.
    const KEY: ApiKey;

    /// Reads the message at `version` from the start of `input` and moves past it; on an error `input` stays as it was.
    /// Strings and bytes share the memory of `input`.
    fn decode(input: &mut Bytes, version: i16) -> Result<Self, DecodeError>;

    /// Writes the message at `version` to the end of `out`. After an error, what `out` holds is of no use.
    fn encode(&self, out: &mut Rope, version: i16) -> Result<(), EncodeError>;

    /// The bytes that [`Message::encode`] writes.
    fn size(&self, version: i16) -> usize;
}

/// A request, and the response that answers it.
pub trait Call: Message {
    /// What answers it.
    type Response: Message;
}

/// The context of a message at `version`, if the version is one we decode.
pub(crate) fn context(versions: Versions, flexible: Versions, version: i16) -> Option<At> {
    versions.contains(version).then(|| At { version, flexible: flexible.contains(version) })
}

/// The line that stands for a message as a whole.
const WHOLE: Field = Field::new("the message", "0+");

pub(crate) fn decode<T: Wire>(input: &mut Bytes, at: Option<At>, key: ApiKey, version: i16) -> Result<T, DecodeError> {
    let at = at.ok_or(DecodeError::Version { api: key.name(), version })?;
    let mut reader = Reader::new(input.clone());
    let value = T::read(&mut reader, at, &WHOLE)?;
    *input = input.split_off(reader.position());
    Ok(value)
}

pub(crate) fn encode<T: Wire>(
    value: &T,
    out: &mut Rope,
    at: Option<At>,
    key: ApiKey,
    version: i16,
) -> Result<(), EncodeError> {
    let at = at.ok_or(EncodeError::Version { api: key.name(), version })?;
    value.write(out, at, &WHOLE)
}

pub(crate) fn size<T: Wire>(value: &T, at: Option<At>) -> usize {
    at.map_or(0, |at| value.size(at, &WHOLE))
}

/// The structures and messages of one API; see the head of this file.
macro_rules! message {
    ($api:ident, $versions:literal, flexible $flexible:literal; $($structs:tt)*) => {
        message! { @api $api, $versions, $crate::field::Versions::parse($flexible); $($structs)* }
    };
    ($api:ident, $versions:literal; $($structs:tt)*) => {
        message! { @api $api, $versions, $crate::field::Versions::NONE; $($structs)* }
    };
    (@api $api:ident, $versions:literal, $flexible:expr; $($structs:tt)*) => {
        const VERSIONS: $crate::field::Versions = $crate::field::Versions::parse($versions);
        const FLEXIBLE: $crate::field::Versions = $flexible;

        /// The key of this API.
        pub const KEY: $crate::ApiKey = $crate::ApiKey::$api;
        /// The lowest and the highest version that decode and encode.
        pub const VERSIONS_DECODABLE: (i16, i16) = (VERSIONS.min, VERSIONS.max);
        /// The first version with compact lengths and tagged fields, if there is one.
        pub const FLEXIBLE_FROM: Option<i16> = if FLEXIBLE.max < 0 { None } else { Some(FLEXIBLE.min) };

        message! { @message Request }
        message! { @message Response }

        impl $crate::Call for Request {
            type Response = Response;
        }

        message! { @structs $($structs)* }
    };
    (@message $name:ident) => {
        impl $crate::Message for $name {
            const KEY: $crate::ApiKey = KEY;

            fn decode(input: &mut $crate::Bytes, version: i16) -> Result<Self, $crate::DecodeError> {
                $crate::message::decode(input, $crate::message::context(VERSIONS, FLEXIBLE, version), KEY, version)
            }

            fn encode(&self, out: &mut $crate::Rope, version: i16) -> Result<(), $crate::EncodeError> {
                $crate::message::encode(self, out, $crate::message::context(VERSIONS, FLEXIBLE, version), KEY, version)
            }

            fn size(&self, version: i16) -> usize {
                $crate::message::size(self, $crate::message::context(VERSIONS, FLEXIBLE, version))
            }
        }
    };
    (@structs $(
        $(#[$doc:meta])*
        $name:ident {
            $(
                $(#[$field_doc:meta])*
                $field:ident : $of:ty $(= $default:expr)? => $in:literal $(, $more:ident($($argument:literal),*))* ;
            )*
        }
    )*) => {
        $(message! {
            @struct $(#[$doc])* $name {
                $($(#[$field_doc])* $field: $of, (message!(@default $of $(, $default)?)), $in,
                    ($crate::field::Field::new(concat!(stringify!($name), ".", stringify!($field)), $in)
                        $(.$more($($argument),*))*);)*
            }
        })*
    };
    (@default $of:ty) => { <$of>::default() };
    (@default $of:ty, $default:expr) => { $default };
    (@struct $(#[$doc:meta])* $name:ident {
        $($(#[$field_doc:meta])* $field:ident: $of:ty, ($default:expr), $in:literal, ($line:expr);)*
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $(
                $(#[$field_doc])*
                #[doc = concat!("Versions ", $in, ".")]
                pub $field: $of,
            )*
            /// Tagged fields that this code does not know, kept for passing on.
            pub unknown_tagged_fields: $crate::Tags,
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* unknown_tagged_fields: $crate::Tags::default() }
            }
        }

        #[allow(non_upper_case_globals)]
        impl $name {
            $(const $field: $crate::field::Field = $line;)*
        }

        impl $crate::codec::Wire for $name {
            #[allow(unused_mut, unused_variables)]
            fn read(
                input: &mut $crate::reader::Reader,
                at: $crate::field::At,
                _: &$crate::field::Field,
            ) -> Result<Self, $crate::DecodeError> {
                let mut value = Self::default();
                $(if Self::$field.is_plain(at.version) {
                    value.$field = $crate::codec::Wire::read(input, at, &Self::$field)?;
                })*
                if at.flexible {
                    let mut unknown = $crate::Tags::default();
                    input.tagged_fields(&mut unknown, |input, tag| {
                        $(if Self::$field.tag == tag && Self::$field.is_tagged(at.version) {
                            value.$field = $crate::codec::Wire::read(input, at, &Self::$field)?;
                            return Ok(true);
                        })*
                        Ok(false)
                    })?;
                    value.unknown_tagged_fields = unknown;
                }
                Ok(value)
            }

            fn write(
                &self,
                out: &mut $crate::Rope,
                at: $crate::field::At,
                _: &$crate::field::Field,
            ) -> Result<(), $crate::EncodeError> {
                #[allow(unused_mut)]
                let mut tagged = 0;
                $(if Self::$field.is_plain(at.version) {
                    $crate::codec::Wire::write(&self.$field, out, at, &Self::$field)?;
                } else if (Self::$field.is_tagged(at.version) || !Self::$field.ignorable) && self.$field != $default {
                    if !Self::$field.is_tagged(at.version) {
                        return Err($crate::EncodeError::NotInVersion {
                            field: Self::$field.name,
                            version: at.version,
                        });
                    }
                    tagged += 1;
                })*
                if at.flexible {
                    #[allow(unused_mut)]
                    let mut tags = $crate::tags::TagWriter::start(out, tagged, &self.unknown_tagged_fields)?;
                    $(if Self::$field.is_tagged(at.version) && self.$field != $default {
                        let size = $crate::codec::Wire::size(&self.$field, at, &Self::$field);
                        tags.known(out, Self::$field.tag, size)?;
                        $crate::codec::Wire::write(&self.$field, out, at, &Self::$field)?;
                    })*
                    tags.finish(out)?;
                }
                Ok(())
            }

            fn size(&self, at: $crate::field::At, _: &$crate::field::Field) -> usize {
                #[allow(unused_mut)]
                let (mut size, mut tagged) = (0, 0);
                $(if Self::$field.is_plain(at.version) {
                    size += $crate::codec::Wire::size(&self.$field, at, &Self::$field);
                } else if Self::$field.is_tagged(at.version) && self.$field != $default {
                    let value = $crate::codec::Wire::size(&self.$field, at, &Self::$field);
                    size += $crate::encode::varint_size(Self::$field.tag) + $crate::tags::value_size(value);
                    tagged += 1;
                })*
                if at.flexible {
                    let count = tagged + self.unknown_tagged_fields.len();
                    size += u32::try_from(count).map_or(5, $crate::encode::varint_size);
                    size += self.unknown_tagged_fields.size();
                }
                size
            }

            fn size_min(at: $crate::field::At, _: &$crate::field::Field) -> usize {
                let mut size = usize::from(at.flexible);
                $(if Self::$field.is_plain(at.version) {
                    size += <$of as $crate::codec::Wire>::size_min(at, &Self::$field);
                })*
                size
            }
        }

        impl $crate::codec::Nullable for $name {
            fn read_nullable(
                input: &mut $crate::reader::Reader,
                at: $crate::field::At,
                field: &$crate::field::Field,
            ) -> Result<Option<Self>, $crate::DecodeError> {
                match $crate::codec::presence::read(input, at, field)? {
                    None => Ok(None),
                    Some(()) => $crate::codec::Wire::read(input, at, field).map(Some),
                }
            }

            fn write_nullable(
                value: Option<&Self>,
                out: &mut $crate::Rope,
                at: $crate::field::At,
                field: &$crate::field::Field,
            ) -> Result<(), $crate::EncodeError> {
                $crate::codec::presence::write(value.is_some(), out, at, field)?;
                value.map_or(Ok(()), |value| $crate::codec::Wire::write(value, out, at, field))
            }

            fn size_nullable(value: Option<&Self>, at: $crate::field::At, field: &$crate::field::Field) -> usize {
                $crate::codec::presence::size(at, field)
                    + value.map_or(0, |value| $crate::codec::Wire::size(value, at, field))
            }

            fn size_min_nullable(at: $crate::field::At, field: &$crate::field::Field) -> usize {
                if field.is_nullable(at.version) { 1 } else { <Self as $crate::codec::Wire>::size_min(at, field) }
            }
        }
    };
}
