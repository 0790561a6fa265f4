//! What a node is told: flags interpreted and checked against each other.

pub mod flags;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use quorate_consensus::kind::{ProtocolKind, UnknownProtocol};

use crate::tls::Files;
use flags::Values;

/// A listening address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Where.
    pub addresses: Vec<SocketAddr>,
    /// Whether TLS is spoken.
    pub tls: bool,
}

/// Everything a node is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The member's name.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// The higher, the rather it leads.
    pub leader_priority: u32,
    /// Its folder.
    pub data_dir: PathBuf,
    /// How members agree.
    pub protocol: ProtocolKind,
    /// Client listeners.
    pub listen_client: Vec<Listen>,
    /// Peer listeners.
    pub listen_peer: Vec<Listen>,
    /// Listeners for metrics and health alone.
    pub listen_metrics: Vec<Listen>,
    /// What clients are told.
    pub advertise_client_urls: Vec<String>,
    /// What peers are told.
    pub advertise_peer_urls: Vec<String>,
    /// Peer URLs by name.
    pub initial_cluster: BTreeMap<String, Vec<String>>,
    /// Names of founders that vote and hold no data.
    pub initial_witnesses: BTreeSet<String>,
    /// Whether to join a cluster that exists.
    pub join: bool,
    /// Keeps clusters apart.
    pub token: String,
    /// Between heartbeats.
    pub heartbeat_ms: u64,
    /// Without a leader.
    pub election_ms: u64,
    /// No writes above; 0 is none.
    pub quota_bytes: u64,
    /// The largest request.
    pub request_bytes_max: usize,
    /// Operations in one transaction.
    pub txn_ops_max: usize,
    /// gRPC streams per connection.
    pub streams_max: u32,
    /// Learners at a time.
    pub learners_max: usize,
    /// How often idle watches are told the revision.
    pub progress_interval: Duration,
    /// TLS for clients.
    pub client_tls: Option<Files>,
    /// TLS for peers.
    pub peer_tls: Option<Files>,
    /// The log's level.
    pub log_level: String,
    /// Whether the log is JSON.
    pub log_json: bool,
}

/// Values that don't make sense.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The start line.
    #[error(transparent)]
    Flags(#[from] flags::FlagError),
    /// The protocol's name.
    #[error(transparent)]
    Protocol(#[from] UnknownProtocol),
    /// A value.
    #[error("--{flag}={value} is not valid: {why}")]
    Invalid {
        /// The flag.
        flag: &'static str,
        /// What was given.
        value: String,
        /// What is wrong.
        why: String,
    },
    /// Two values.
    #[error("{0}")]
    Conflict(String),
}

fn invalid(flag: &'static str, value: &str, why: impl ToString) -> ConfigError {
    ConfigError::Invalid { flag, value: value.to_owned(), why: why.to_string() }
}

impl Config {
    /// Reads the start line and the environment.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn from_process() -> Result<(Self, Vec<&'static str>), ConfigError> {
        let values = Values::read(std::env::args().skip(1), |name| std::env::var(name).ok())?;
        let ignored = values.ignored().collect();
        Ok((Self::from_values(&values)?, ignored))
    }

    /// Interprets values.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn from_values(values: &Values) -> Result<Self, ConfigError> {
        let protocol: ProtocolKind = values.get("consensus").parse()?;
        let name = values.get("name").to_owned();
        let data_dir = match values.get("data-dir") {
            "" => format!("{name}.quorate"),
            given => given.to_owned(),
        };
        let advertise_peer_urls = urls(values, "initial-advertise-peer-urls")?;
        let initial_cluster = match values.get("initial-cluster") {
            "" => BTreeMap::from([(name.clone(), advertise_peer_urls.clone())]),
            given => initial_cluster(given)?,
        };
        let join = match values.get("initial-cluster-state") {
            "new" => false,
            "existing" => true,
            other => return Err(invalid("initial-cluster-state", other, "choose new or existing")),
        };
        let config = Self {
            zone: values.get("zone").to_owned(),
            leader_priority: number(values, "leader-priority")?,
            data_dir: data_dir.into(),
            protocol,
            listen_client: listen(values, "listen-client-urls")?,
            listen_peer: listen(values, "listen-peer-urls")?,
            listen_metrics: listen(values, "listen-metrics-urls")?,
            advertise_client_urls: urls(values, "advertise-client-urls")?,
            advertise_peer_urls,
            initial_cluster,
            initial_witnesses: names(values.get("initial-cluster-witnesses")),
            join,
            token: values.get("initial-cluster-token").to_owned(),
            heartbeat_ms: number(values, "heartbeat-interval")?,
            election_ms: number(values, "election-timeout")?,
            quota_bytes: u64::try_from(number::<i64>(values, "quota-backend-bytes")?).unwrap_or(0),
            request_bytes_max: number(values, "max-request-bytes")?,
            txn_ops_max: number(values, "max-txn-ops")?,
            streams_max: number(values, "max-concurrent-streams")?,
            learners_max: number(values, "max-learners")?,
            progress_interval: duration(
                "watch-progress-notify-interval",
                values.get("watch-progress-notify-interval"),
            )?,
            client_tls: tls(values, "")?,
            peer_tls: tls(values, "peer-")?,
            log_level: values.get("log-level").to_owned(),
            log_json: values.get("log-format") == "json",
            name,
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.election_ms < 5 * self.heartbeat_ms || self.heartbeat_ms == 0 {
            return Err(ConfigError::Conflict(format!(
                "--election-timeout[{}ms] should be at least as 5 times as --heartbeat-interval[{}ms]",
                self.election_ms, self.heartbeat_ms
            )));
        }
        self.check_witnesses()?;
        for (listens, files, prefix) in
            [(&self.listen_client, &self.client_tls, ""), (&self.listen_peer, &self.peer_tls, "peer-")]
        {
            if listens.iter().any(|listen| listen.tls) && files.is_none() {
                return Err(ConfigError::Conflict(format!(
                    "an https listener needs --{prefix}cert-file and --{prefix}key-file"
                )));
            }
        }
        Ok(())
    }

    /// A joining member is told its role by the cluster; founders must agree on theirs.
    fn check_witnesses(&self) -> Result<(), ConfigError> {
        if self.join {
            return Ok(());
        }
        let (witnesses, all) = (&self.initial_witnesses, &self.initial_cluster);
        if let Some(name) = witnesses.iter().find(|name| !all.contains_key(*name)) {
            return Err(invalid("initial-cluster-witnesses", name, "--initial-cluster does not have it"));
        }
        if 2 * witnesses.len() >= all.len() && !witnesses.is_empty() {
            let given = witnesses.iter().cloned().collect::<Vec<_>>().join(",");
            let why = "witnesses must be fewer than the members that hold data";
            return Err(invalid("initial-cluster-witnesses", &given, why));
        }
        Ok(())
    }
}

fn names(text: &str) -> BTreeSet<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn number<T: std::str::FromStr>(values: &Values, flag: &'static str) -> Result<T, ConfigError>
where
    T::Err: std::fmt::Display,
{
    let value = values.get(flag);
    value.parse().map_err(|error| invalid(flag, value, error))
}

/// Go's durations: `10m`, `1.5s`, `100ms`, `1h30m`.
fn duration(flag: &'static str, value: &str) -> Result<Duration, ConfigError> {
    let wrong = || invalid(flag, value, "write it as 100ms, 10s, 5m or 1h");
    let mut seconds = 0.0;
    let mut rest = value;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let amount: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let tail = &rest[digits..];
        let (unit, scale) =
            [("ms", 0.001), ("us", 1e-6), ("ns", 1e-9), ("s", 1.0), ("m", 60.0), ("h", 3600.0)]
                .into_iter()
                .find(|(unit, _)| tail.starts_with(unit))
                .ok_or_else(wrong)?;
        seconds += amount * scale;
        rest = &tail[unit.len()..];
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

fn boolean(values: &Values, flag: &'static str) -> Result<bool, ConfigError> {
    match values.get(flag) {
        "true" | "1" | "t" | "T" | "True" | "TRUE" => Ok(true),
        "false" | "0" | "f" | "F" | "False" | "FALSE" | "" => Ok(false),
        other => Err(invalid(flag, other, "choose true or false")),
    }
}

fn urls(values: &Values, flag: &'static str) -> Result<Vec<String>, ConfigError> {
    let given = values.get(flag).split(',').map(str::trim).filter(|url| !url.is_empty());
    given.map(|url| split_url(flag, url).map(|_| url.trim_end_matches('/').to_owned())).collect()
}

/// Whether it is TLS, and host with port.
fn split_url<'a>(flag: &'static str, url: &'a str) -> Result<(bool, &'a str), ConfigError> {
    let (tls, rest) = match url.split_once("://") {
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        Some(_) | None => return Err(invalid(flag, url, "a URL starts with http:// or https://")),
    };
    let authority = rest.trim_end_matches('/');
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok((tls, authority)),
        Some(_) | None => Err(invalid(flag, url, "a URL needs a host and a port")),
    }
}

fn listen(values: &Values, flag: &'static str) -> Result<Vec<Listen>, ConfigError> {
    let mut listens = Vec::new();
    for url in urls(values, flag)? {
        let (tls, authority) = split_url(flag, &url)?;
        let addresses: Vec<_> =
            authority.to_socket_addrs().map_err(|error| invalid(flag, &url, error))?.collect();
        listens.push(Listen { addresses, tls });
    }
    Ok(listens)
}

fn initial_cluster(text: &str) -> Result<BTreeMap<String, Vec<String>>, ConfigError> {
    let mut members: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, url) = pair
            .split_once('=')
            .ok_or_else(|| invalid("initial-cluster", pair, "write name=http://host:port"))?;
        split_url("initial-cluster", url)?;
        members.entry(name.to_owned()).or_default().push(url.trim_end_matches('/').to_owned());
    }
    Ok(members)
}

fn tls(values: &Values, prefix: &'static str) -> Result<Option<Files>, ConfigError> {
    let get = |name: &str| values.get(&format!("{prefix}{name}")).to_owned();
    let (certificate, key, trusted) = (get("cert-file"), get("key-file"), get("trusted-ca-file"));
    if certificate.is_empty() != key.is_empty() {
        return Err(ConfigError::Conflict(format!(
            "--{prefix}cert-file and --{prefix}key-file belong together"
        )));
    }
    if certificate.is_empty() {
        return Ok(None);
    }
    // etcd verifies certificates as soon as it is told a trusted CA for them.
    let flag = if prefix.is_empty() { "client-cert-auth" } else { "peer-client-cert-auth" };
    let require = boolean(values, flag)? || !trusted.is_empty();
    if require && trusted.is_empty() {
        return Err(ConfigError::Conflict(format!("--{flag} needs --{prefix}trusted-ca-file")));
    }
    let tls12 = match values.get("tls-min-version") {
        "TLS1.3" | "" => false,
        "TLS1.2" => true,
        other => return Err(invalid("tls-min-version", other, "choose TLS1.2 or TLS1.3")),
    };
    Ok(Some(Files {
        certificate: certificate.into(),
        key: key.into(),
        trusted: (!trusted.is_empty()).then(|| trusted.into()),
        require_client_certificate: require,
        tls12,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(arguments: &[&str]) -> Result<Config, ConfigError> {
        let values = Values::read(arguments.iter().map(|&argument| argument.to_owned()), |_| None)?;
        Config::from_values(&values)
    }

    #[test]
    fn defaults_make_one_member() {
        let config = config(&[]).unwrap();
        assert_eq!(config.initial_cluster["default"], ["http://localhost:2380"]);
        assert_eq!(config.progress_interval, Duration::from_secs(600));
    }

    #[test]
    fn every_protocol_has_a_name() {
        let protocol = |name: &str| config(&[&format!("--consensus={name}")]).map(|config| config.protocol);
        assert_eq!(protocol("MultiPaxos").unwrap(), ProtocolKind::MultiPaxos);
        assert_eq!(protocol("zab").unwrap(), ProtocolKind::Zab);
        let error = protocol("Vr").unwrap_err();
        assert_eq!(error.to_string(), "\"Vr\" is not a protocol: choose Raft, MultiPaxos or Zab");
    }

    #[test]
    fn witnesses_are_known_and_a_minority() {
        let witnesses = |names: &str| {
            let cluster = "--initial-cluster=default=http://localhost:2380,b=http://h:2,c=http://h:3";
            config(&[cluster, &format!("--initial-cluster-witnesses={names}")])
        };
        assert_eq!(witnesses("c").unwrap().initial_witnesses, BTreeSet::from(["c".to_owned()]));
        assert!(witnesses("d").unwrap_err().to_string().ends_with("--initial-cluster does not have it"));
        assert!(witnesses("b,c").unwrap_err().to_string().contains("fewer than the members that hold data"));
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        assert!(config(&["--listen-client-urls=localhost:1"]).is_err());
        assert!(config(&["--listen-client-urls=https://localhost:1"]).is_err());
        assert!(config(&["--election-timeout=100"]).is_err());
        assert!(duration("x", "5").is_err());
    }
}
