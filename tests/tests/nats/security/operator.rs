//! A NATS operator with one account and one user, as tokens that are signed here: what `nsc` makes, without a resolver.

use std::path::Path;

use anyhow::Result;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

/// What a server and its user need.
pub(super) struct Operator {
    /// Lines for the server's configuration.
    pub(super) configuration: String,
    /// The text of the user's file of credentials.
    pub(super) credentials: String,
    /// The seed in it.
    pub(super) seed: String,
}

impl Operator {
    /// Makes an operator, the account of the system, an account with JetStream, and a user of that.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let (operator, system, account, user) = (
            KeyPair::new_operator(),
            KeyPair::new_account(),
            KeyPair::new_account(),
            KeyPair::new_user(),
        );
        let unlimited = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
        });
        let mut with_jetstream = unlimited.clone();
        for limit in ["mem_storage", "disk_storage", "streams", "consumer"] {
            with_jetstream[limit] = json!(-1);
        }
        let of_account = |limits: Value| json!({"limits": limits, "type": "account", "version": 2});
        let operator_token = token(&operator, &operator, json!({"type": "operator", "version": 2}))?;
        let system_token = token(&operator, &system, of_account(unlimited))?;
        let account_token = token(&operator, &account, of_account(with_jetstream))?;
        let of_user = json!({"subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2});
        let user_token = token(&account, &user, of_user)?;
        let file = folder.join("operator.jwt");
        std::fs::write(&file, operator_token)?;
        let configuration = format!(
            "operator: {file:?}\nsystem_account: {system}\nresolver: MEMORY\n\
             resolver_preload: {{\n  {system}: {system_token}\n  {account}: {account_token}\n}}\n",
            system = system.public_key(),
            account = account.public_key(),
        );
        let seed = user.seed()?;
        let credentials = format!(
            "-----BEGIN NATS USER JWT-----\n{user_token}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        Ok(Self {
            configuration,
            credentials,
            seed,
        })
    }
}

fn token(issuer: &KeyPair, subject: &KeyPair, claims: Value) -> Result<String> {
    let header = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let body = json!({
        "jti": "of-a-test", "iat": 1, "iss": issuer.public_key(), "sub": subject.public_key(), "name": "of-a-test", "nats": claims,
    });
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&header), encode(&body));
    let signature = BASE64_URL_SAFE_NO_PAD.encode(issuer.sign(signed.as_bytes())?);
    Ok(format!("{signed}.{signature}"))
}
