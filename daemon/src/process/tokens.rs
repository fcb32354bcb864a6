//! Who may come in: bearer tokens of tenants.

use crate::exit::{Exit, Failure, OrExit, Outcome};
use bettong_core::Rights;
use bettong_core::door::Authenticate;
use bettong_wire::limits::{NAME_BYTES_MAX, TOKEN_BYTES_MAX};
use bettong_wire::{ErrorKind, ServiceError};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// Largest token file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Shortest token, in bytes: what is shorter can be guessed.
const TOKEN_BYTES_MIN: usize = 16;

/// What a tenant has to show.
#[derive(Debug, Clone)]
struct Grant {
    /// Hash of the token: comparing hashes takes the same time for every wrong token.
    token: blake3::Hash,
    rights: Rights,
}

/// The tenants that may come in.
#[derive(Debug, Clone, Default)]
pub struct Tokens {
    /// `None` where every peer is trusted, which only a daemon on loopback, or one that was told to, does.
    grants: Option<BTreeMap<String, Grant>>,
}

impl Tokens {
    /// Reads `path`; an empty path trusts every peer.
    pub fn read(path: &str) -> Outcome<Self> {
        if path.is_empty() {
            return Ok(Self { grants: None });
        }
        let mut text = String::new();
        let file = std::fs::File::open(Path::new(path)).or_exit(Exit::Usage, format!("token_file {path}"))?;
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).or_exit(Exit::Usage, format!("token_file {path}"))?;
        let grants = parse(&text)
            .map_err(|(line, message)| Failure::new(Exit::Usage, format!("token_file {path}:{line}: {message}")))?;
        Ok(Self { grants: Some(grants) })
    }

    /// How many tenants are told apart: one where every peer is trusted with everything.
    pub fn tenants(&self) -> usize {
        self.grants.as_ref().map_or(1, BTreeMap::len)
    }
}

/// Lines of `tenant token [admin]`; empty lines and lines that begin with `#` are passed over. Errors never repeat a
/// token.
fn parse(text: &str) -> Result<BTreeMap<String, Grant>, (usize, String)> {
    let mut grants = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let wrong = |message: String| (index + 1, message);
        let words: Vec<&str> = line.split_whitespace().collect();
        let (tenant, token, admin) = match words.as_slice() {
            [] => continue,
            [first, ..] if first.starts_with('#') => continue,
            [tenant, token] => (*tenant, *token, false),
            [tenant, token, "admin"] => (*tenant, *token, true),
            _ => return Err(wrong("a line is `tenant token` or `tenant token admin`".to_owned())),
        };
        if tenant.len() > NAME_BYTES_MAX || !(TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&token.len()) {
            return Err(wrong(format!(
                "a tenant has up to {NAME_BYTES_MAX} bytes, a token {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX}"
            )));
        }
        let grant = Grant { token: blake3::hash(token.as_bytes()), rights: Rights { admin } };
        if grants.insert(tenant.to_owned(), grant).is_some() {
            return Err(wrong(format!("tenant {tenant} has a token already")));
        }
    }
    Ok(grants)
}

impl Authenticate for Tokens {
    fn authenticate(&self, tenant: &str, token: &str, origin: &str) -> Result<Rights, ServiceError> {
        let Some(grants) = &self.grants else { return Ok(Rights { admin: true }) };
        let shown = blake3::hash(token.as_bytes());
        match grants.get(tenant) {
            // `blake3::Hash` compares in constant time.
            Some(grant) if grant.token == shown => Ok(grant.rights),
            _ => {
                tracing::warn!(tenant, origin, "denied: wrong tenant or token");
                Err(ServiceError::new(ErrorKind::Denied, "the tenant or its token is wrong"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# tenants\n\nalice 0123456789abcdef\nroot  fedcba9876543210 admin\n";

    #[test]
    fn only_the_tenants_own_token_opens() {
        let tokens = Tokens { grants: Some(parse(GOOD).unwrap()) };
        assert_eq!(tokens.authenticate("alice", "0123456789abcdef", ""), Ok(Rights { admin: false }));
        assert_eq!(tokens.authenticate("root", "fedcba9876543210", ""), Ok(Rights { admin: true }));
        for (tenant, token) in [
            ("alice", "fedcba9876543210"),
            ("alice", ""),
            ("bob", "0123456789abcdef"),
            ("", ""),
            ("alice", "0123456789abcdef "),
        ] {
            assert_eq!(tokens.authenticate(tenant, token, "").unwrap_err().kind, ErrorKind::Denied);
        }
    }

    #[test]
    fn a_wrong_file_is_said_with_its_line_and_without_the_token() {
        for (text, line) in [
            ("alice secret", 1),
            ("alice 0123456789abcdef boss", 1),
            ("\nalice", 2),
            ("a 0123456789abcdef\na 0123456789abcdeX", 2),
        ] {
            let (at, message) = parse(text).unwrap_err();
            assert_eq!(at, line);
            assert!(!message.contains("secret") && !message.contains("0123456789abcde"), "{message}");
        }
    }
}
