//! What a caller says in JSON: how a client behaves, and the model identity. Fields that nobody knows are refused, by name.

use bettong_client::{Error, ErrorKind, ModelIdentity, Options};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Longest text of JSON, in bytes: a model identity with every field at its limit has less.
pub const JSON_BYTES_MAX: usize = 1 << 20;

fn read<T: DeserializeOwned>(what: &str, text: &str) -> Result<T, Error> {
    serde_json::from_str(text)
        .map_err(|error| Error::new(ErrorKind::Invalid, format!("{what} cannot be read: {error}")))
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct OptionsText {
    tenant: Option<String>,
    token: Option<String>,
    name: Option<String>,
    call_timeout_ms: Option<u64>,
    connect_timeout_ms: Option<u64>,
    attempts_max: Option<u32>,
    calls_max: Option<usize>,
    received_bytes_max: Option<u64>,
    staging_bytes: Option<u64>,
    spin_us: Option<u64>,
    payload_crc: Option<bool>,
}

/// The options that `text` names; the others, or all where there is none, are the library's defaults.
pub fn options(text: Option<&str>) -> Result<Options, Error> {
    let said: OptionsText = text.map_or(Ok(OptionsText::default()), |text| read("the options", text))?;
    let usual = Options::default();
    // Each client its own, so that many that lost one daemon do not come back at once.
    let seed = getrandom::u64()
        .map_err(|error| Error::new(ErrorKind::Unavailable, format!("the system gives no random bits: {error}")))?;
    Ok(Options {
        tenant: said.tenant.unwrap_or(usual.tenant),
        token: said.token.unwrap_or(usual.token),
        name: said.name.unwrap_or(usual.name),
        call_timeout: time("call_timeout_ms", said.call_timeout_ms)?.unwrap_or(usual.call_timeout),
        connect_timeout: time("connect_timeout_ms", said.connect_timeout_ms)?.unwrap_or(usual.connect_timeout),
        attempts_max: said.attempts_max.unwrap_or(usual.attempts_max),
        calls_max: said.calls_max.unwrap_or(usual.calls_max),
        received_bytes_max: said.received_bytes_max.unwrap_or(usual.received_bytes_max),
        staging_bytes: said.staging_bytes.unwrap_or(usual.staging_bytes),
        spin: spin(said.spin_us)?.unwrap_or(usual.spin),
        payload_crc: said.payload_crc.or(usual.payload_crc),
        seed,
        ..usual
    })
}

/// Longest time limit, in milliseconds: a day. What is longer is a mistake, and could overflow a clock.
const TIME_MS_MAX: u64 = 24 * 3600 * 1000;

fn time(what: &str, ms: Option<u64>) -> Result<Option<Duration>, Error> {
    match ms {
        Some(ms) if ms == 0 || ms > TIME_MS_MAX => {
            let text = format!("the option {what} is {ms}, it must be 1 to {TIME_MS_MAX}");
            Err(Error::new(ErrorKind::Invalid, text))
        }
        _ => Ok(ms.map(Duration::from_millis)),
    }
}

/// Longest time to look for an answer before the thread may sleep, in microseconds: what is longer only burns a core.
const SPIN_US_MAX: u64 = 1_000_000;

fn spin(us: Option<u64>) -> Result<Option<Duration>, Error> {
    match us {
        Some(us) if us > SPIN_US_MAX => {
            let text = format!("the option spin_us is {us}, the limit is {SPIN_US_MAX}");
            Err(Error::too_large(text, SPIN_US_MAX))
        }
        _ => Ok(us.map(Duration::from_micros)),
    }
}

/// The names are those of `ModelIdentity`, and of the files that `bettong lookup --identity` reads.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityText {
    model: String,
    weights_digest: Option<String>,
    tokenizer: Option<String>,
    kv_dtype: String,
    layout: String,
    block_tokens: u32,
    parallel: Option<String>,
    adapter: Option<String>,
    engine_layout: Option<String>,
    parts: Vec<u16>,
}

pub fn identity(text: &str) -> Result<ModelIdentity, Error> {
    let said: IdentityText = read("the model identity", text)?;
    Ok(ModelIdentity {
        model: said.model,
        weights_digest: said.weights_digest,
        tokenizer: said.tokenizer,
        kv_dtype: said.kv_dtype,
        layout: said.layout,
        block_tokens: said.block_tokens,
        parallel: said.parallel,
        adapter: said.adapter,
        engine_layout: said.engine_layout,
        parts: said.parts,
    })
}
