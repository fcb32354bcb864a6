//! S3 and what speaks like it: endpoint, region and credentials from the configuration, else from the usual `AWS_*`.

use crate::config::Config;
use crate::exit::{Exit, Failure, OrExit, Outcome};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::{ClientOptions, ObjectStore, RetryConfig};
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// Credentials that servers come with, or that documents print. Off loopback they are nobody's secret.
const WELL_KNOWN: [&str; 9] = [
    "minioadmin",
    "minio123",
    "rustfsadmin",
    "test",
    "testing",
    "password",
    "admin",
    "AKIAIOSFODNN7EXAMPLE",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
];

/// Attempts that the S3 client makes by itself after an answer that asks for another one; the store retries above it.
const CLIENT_RETRIES: usize = 2;

pub fn open(bucket: &str, config: &Config) -> Outcome<Arc<dyn ObjectStore>> {
    let refused = |message: String| Failure::new(Exit::ObjectStore, format!("object store s3://{bucket}: {message}"));
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    let set = [
        (AmazonS3ConfigKey::Endpoint, &config.s3_endpoint.0),
        (AmazonS3ConfigKey::Region, &config.s3_region.0),
        (AmazonS3ConfigKey::AccessKeyId, &config.s3_access_key_id.0),
        (AmazonS3ConfigKey::SecretAccessKey, &config.s3_secret_access_key.0),
    ];
    for (key, value) in set {
        if !value.is_empty() {
            builder = builder.with_config(key, value);
        }
    }
    let value = |key: AmazonS3ConfigKey| builder.get_config_value(&key).unwrap_or_default();
    let endpoint = value(AmazonS3ConfigKey::Endpoint);
    let local = on_loopback(&endpoint).map_err(refused)?;
    if config.s3_instance_role.0 {
        if !value(AmazonS3ConfigKey::AccessKeyId).is_empty() {
            return Err(refused("s3_instance_role is on and an access key is given: choose one".to_owned()));
        }
    } else {
        let (key, secret) = (value(AmazonS3ConfigKey::AccessKeyId), value(AmazonS3ConfigKey::SecretAccessKey));
        credentials(&key, &secret, local).map_err(refused)?;
    }
    if value(AmazonS3ConfigKey::SkipSignature) == "true" && !local {
        return Err(refused("AWS_SKIP_SIGNATURE sends no credentials: refused off loopback".to_owned()));
    }
    // The store gives large payloads more time; whoever else uses this client has bounds of its own.
    let slowest = Duration::from_secs(config.payload_bytes_max.0 / (2 << 20));
    let options = ClientOptions::new()
        .with_connect_timeout(config.object_attempt_ms.duration())
        .with_timeout(config.object_attempt_ms.duration() + slowest)
        .with_allow_http(local);
    let retry = RetryConfig {
        max_retries: CLIENT_RETRIES,
        retry_timeout: config.object_attempt_ms.duration(),
        ..RetryConfig::default()
    };
    builder
        .with_client_options(options)
        .with_retry(retry)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_virtual_hosted_style_request(!config.s3_path_style.0)
        .build()
        .map(|store| Arc::new(store) as Arc<dyn ObjectStore>)
        .or_exit(Exit::ObjectStore, format!("object store s3://{bucket}"))
}

/// Whether the endpoint is on this machine. Refuses what is no http or https address, and http to anywhere else.
fn on_loopback(endpoint: &str) -> Result<bool, String> {
    if endpoint.is_empty() {
        return Ok(false);
    }
    let url = Url::parse(endpoint).map_err(|error| format!("endpoint `{endpoint}`: {error}"))?;
    let local = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => return Err(format!("endpoint `{endpoint}` names no host")),
    };
    match (url.scheme(), local) {
        ("https", _) | ("http", true) => Ok(local),
        ("http", false) => Err(format!("endpoint `{endpoint}` is not loopback and http sends everything in the clear")),
        (scheme, _) => Err(format!("endpoint `{endpoint}` has the scheme {scheme}; write https")),
    }
}

/// Refuses keys that are missing anywhere, and keys that everybody knows off loopback.
fn credentials(key: &str, secret: &str, local: bool) -> Result<(), String> {
    if key.is_empty() || secret.is_empty() {
        return Err(
            "credentials are empty; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or s3_instance_role".to_owned()
        );
    }
    if !local && (key == secret || WELL_KNOWN.contains(&key) || WELL_KNOWN.contains(&secret)) {
        return Err("credentials are a server's defaults or an example: refused off loopback".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clear_text_is_for_loopback_only() {
        for (endpoint, local) in [
            ("", false),
            ("http://127.0.0.1:5000", true),
            ("http://localhost", true),
            ("http://[::1]:1", true),
            ("https://s3.example.org", false),
        ] {
            assert_eq!(on_loopback(endpoint), Ok(local), "{endpoint}");
        }
        for endpoint in [
            "http://s3.example.org",
            "http://127.0.0.1.example.org",
            "http://localhost.example.org",
            "ftp://127.0.0.1",
            "127.0.0.1:5000",
            "https://",
        ] {
            assert!(on_loopback(endpoint).is_err(), "{endpoint}");
        }
    }

    #[test]
    fn default_and_empty_credentials_are_refused() {
        assert!(credentials("", "", true).is_err());
        assert!(credentials("key", "", false).is_err());
        assert!(credentials("minioadmin", "minioadmin", false).is_err());
        assert!(credentials("mine", "testing", false).is_err());
        assert!(credentials("same", "same", false).is_err());
        credentials("testing", "testing", true).unwrap();
        credentials("mine", "secret", false).unwrap();
    }
}
