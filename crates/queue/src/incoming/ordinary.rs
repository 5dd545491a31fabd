//! The messages that nearly all are: those of our servers, and those like them. They are read where
//! they stand, without building values of them first.
//!
//! What is unusual in any way, or wrong, is left to the general way of reading, which gives the
//! same of what is read here.

use super::{Incoming, Kin, level, parse_time, time_limit};
use crate::{keys, task::Arguments};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use imgsys_types::Checksum;
use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use std::{fmt, marker::PhantomData};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    body: &'a str,
    #[serde(rename = "content-type")]
    content_type: &'a str,
    #[serde(rename = "content-encoding")]
    content_encoding: &'a str,
    #[serde(borrow)]
    headers: Object<Headers<'a>>,
    #[serde(borrow)]
    properties: Object<Properties<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Headers<'a> {
    id: &'a str,
    task: &'a str,
    #[serde(default)]
    eta: Option<&'a str>,
    #[serde(default)]
    expires: Option<&'a str>,
    #[serde(default)]
    retries: Option<u32>,
    #[serde(default)]
    timelimit: Option<(Option<f64>, Option<f64>)>,
    #[serde(default)]
    redelivered: Option<bool>,
    #[serde(default)]
    root_id: Option<&'a str>,
    #[serde(default)]
    parent_id: Option<&'a str>,
    #[serde(default)]
    group: Option<&'a str>,
    #[serde(default)]
    ignore_result: Option<bool>,
    #[serde(default)]
    xxh3: Option<Checksum>,
    // What makes no odds for us, of which only the form has to be right.
    #[serde(default, rename = "lang")]
    _lang: Simple,
    #[serde(default, rename = "shadow")]
    _shadow: Simple,
    #[serde(default, rename = "group_index")]
    _group_index: Simple,
    #[serde(default, rename = "argsrepr")]
    _argsrepr: Simple,
    #[serde(default, rename = "kwargsrepr")]
    _kwargsrepr: Simple,
    #[serde(default, rename = "origin")]
    _origin: Simple,
    #[serde(default, rename = "replaced_task_nesting")]
    _replaced_task_nesting: Simple,
    #[serde(default, rename = "stamped_headers")]
    _stamped: Simple,
    #[serde(default, rename = "stamps")]
    _stamps: Simple,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Properties<'a> {
    body_encoding: &'a str,
    #[serde(default)]
    priority: Option<f64>,
    #[serde(default)]
    delivery_info: Object<Delivery>,
    #[serde(default, rename = "correlation_id")]
    _correlation_id: Simple,
    #[serde(default, rename = "reply_to")]
    _reply_to: Simple,
    #[serde(default, rename = "delivery_mode")]
    _delivery_mode: Simple,
    #[serde(default, rename = "delivery_tag")]
    _delivery_tag: Simple,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Delivery {
    #[serde(default)]
    redelivered: bool,
    #[serde(default, rename = "exchange")]
    _exchange: Simple,
    #[serde(default, rename = "routing_key")]
    _routing_key: Simple,
}

/// The third part of a body, if nothing is to be done after the task.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Embed {
    #[serde(default, rename = "callbacks")]
    _callbacks: (),
    #[serde(default, rename = "errbacks")]
    _errbacks: (),
    #[serde(default, rename = "chain")]
    _chain: (),
    #[serde(default, rename = "chord")]
    _chord: (),
}

/// An object in JSON. Without this, serde takes a list of a struct's values for one, too.
#[derive(Default)]
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(access)).map(Object)
            }
        }

        deserializer.deserialize_map(Members(PhantomData))
    }
}

/// Any value that has no others in it.
#[derive(Default)]
struct Simple;

impl<'de> Deserialize<'de> for Simple {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Simple {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value without others in it")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self, A::Error> {
        match access.next_element::<IgnoredAny>()? {
            None => Ok(self),
            Some(_) => Err(A::Error::custom("a list with something in it")),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self, A::Error> {
        match access.next_key::<IgnoredAny>()? {
            None => Ok(self),
            Some(_) => Err(A::Error::custom("an object with something in it")),
        }
    }
}

/// Reads a message, if it is an ordinary one.
pub(super) fn read(raw: &str) -> Option<Incoming> {
    let Object(envelope): Object<Envelope<'_>> = serde_json::from_str(raw).ok()?;
    let (Object(headers), Object(properties)) = (envelope.headers, envelope.properties);
    let Object(delivery) = properties.delivery_info;
    let usual = envelope.content_type == "application/json"
        && envelope.content_encoding == "utf-8"
        && properties.body_encoding == "base64"
        && headers.task == keys::TASK;
    if !usual {
        return None;
    }
    let body = BASE64.decode(envelope.body).ok()?;
    let body = std::str::from_utf8(&body).ok()?;
    let body: ([(); 0], Object<Arguments>, Object<Embed>) = serde_json::from_str(body).ok()?;
    let ([], Object(arguments), _) = body;
    let time = |text: Option<&str>| match text {
        None => Some(None),
        Some(text) => parse_time(text).map(Some),
    };
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Some(Incoming {
        level: level(properties.priority),
        eta: time(headers.eta)?,
        expires: time(headers.expires)?,
        time_limit: headers.timelimit.and_then(time_limit),
        retries: headers.retries.unwrap_or(0),
        id: headers.id.to_owned(),
        raw: raw.to_owned(),
        arguments,
        checksum: headers.xxh3,
        redelivered: headers.redelivered.unwrap_or(false) || delivery.redelivered,
        kin: Kin {
            root: owned(headers.root_id),
            parent: owned(headers.parent_id),
            group: owned(headers.group),
            ignore_result: headers.ignore_result.unwrap_or(false),
            canvas: None,
        },
    })
}
