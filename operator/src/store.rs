//! Talking to members by the etcd API.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use quorate_api::etcdserverpb::cluster_client::ClusterClient;
use quorate_api::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_api::etcdserverpb::{
    MemberAddRequest, MemberListRequest, MemberListResponse, MemberPromoteRequest, MemberRemoveRequest,
    MoveLeaderRequest, StatusRequest, StatusResponse,
};
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::names::{CLIENT_PORT, Names, WITNESS_ROLE};

/// A member that is well answers a question within this, and a new connection stands; in another data centre, too.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// A membership change passes through the log twice, on members that may be slow.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(15);
/// Metadata of MemberAdd: the id of the lost member whose place the newcomer takes.
const REPLACES: &str = "quorate-replaces";
/// Metadata of MemberAdd: the newcomer's role.
const ROLE: &str = "quorate-role";

/// Why a member gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It can't be reached.
    #[error("{host} can't be reached: {cause}")]
    Unreachable {
        /// Whom.
        host: String,
        /// Why.
        cause: tonic::transport::Error,
    },
    /// It is silent.
    #[error("{host} can't be reached: no connection within {} s", ASK_TIMEOUT.as_secs())]
    Silent {
        /// Who.
        host: String,
    },
    /// It refused.
    #[error("{host} answered: {}", status.message())]
    Refused {
        /// Who.
        host: String,
        /// What it said.
        status: Box<tonic::Status>,
    },
}

/// What the operator shows to members, as PEM.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The cluster's CA.
    pub ca: Vec<u8>,
    /// The client certificate.
    pub certificate: Vec<u8>,
    /// Its key.
    pub key: Vec<u8>,
}

/// A connection to one member.
#[derive(Clone, Debug)]
pub struct Store {
    host: String,
    channel: Channel,
}

impl Store {
    /// Connects to the member of a pod at its address; `credentials` are for TLS. Names are not looked up: a name server may be
    /// lost with a zone, and clients wait 5 s for each question to it until Kubernetes notices.
    ///
    /// # Errors
    /// It can't be reached.
    pub async fn connect(
        names: &Names,
        pod: &str,
        address: IpAddr,
        credentials: Option<&Credentials>,
    ) -> Result<Self, StoreError> {
        let host = names.host(pod);
        let unreachable = |cause| StoreError::Unreachable { host: host.clone(), cause };
        let scheme = if credentials.is_some() { "https" } else { "http" };
        let address = SocketAddr::new(address, CLIENT_PORT);
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
            .map_err(unreachable)?
            .timeout(CHANGE_TIMEOUT);
        if let Some(Credentials { ca, certificate, key }) = credentials {
            let tls = ClientTlsConfig::new()
                .ca_certificate(Certificate::from_pem(ca))
                .domain_name(&host)
                .identity(Identity::from_pem(certificate, key));
            endpoint = endpoint.tls_config(tls).map_err(unreachable)?;
        }
        // Around all of it: the endpoint's own timeout leaves the TLS handshake out.
        match tokio::time::timeout(ASK_TIMEOUT, endpoint.connect()).await {
            Ok(connected) => Ok(Self { channel: connected.map_err(unreachable)?, host }),
            Err(_) => Err(StoreError::Silent { host }),
        }
    }

    fn refused(&self, status: tonic::Status) -> StoreError {
        StoreError::Refused { host: self.host.clone(), status: Box::new(status) }
    }

    fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone())
    }

    fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel.clone())
    }

    /// How it is.
    ///
    /// # Errors
    /// It does not say.
    pub async fn status(&self) -> Result<StatusResponse, StoreError> {
        let mut request = tonic::Request::new(StatusRequest {});
        request.set_timeout(ASK_TIMEOUT);
        let answer = tokio::time::timeout(ASK_TIMEOUT, self.maintenance().status(request)).await;
        let answer = answer.unwrap_or_else(|_| Err(tonic::Status::deadline_exceeded("no answer in time")));
        Ok(answer.map_err(|status| self.refused(status))?.into_inner())
    }

    /// The members: `confirmed` by a quorum, or as this one knows them.
    ///
    /// # Errors
    /// There is no quorum; it does not say.
    pub async fn members(&self, confirmed: bool) -> Result<MemberListResponse, StoreError> {
        let asked = MemberListRequest { linearizable: confirmed };
        let mut cluster = self.cluster();
        let answer = tokio::time::timeout(ASK_TIMEOUT, cluster.member_list(asked)).await;
        let answer = answer.unwrap_or_else(|_| Err(tonic::Status::deadline_exceeded("no answer in time")));
        Ok(answer.map_err(|status| self.refused(status))?.into_inner())
    }

    /// Adds a learner.
    ///
    /// # Errors
    /// It is refused.
    pub async fn add_learner(&self, peer_url: &str, replaces: Option<u64>) -> Result<(), StoreError> {
        let asked = MemberAddRequest { peer_ur_ls: vec![peer_url.to_owned()], is_learner: true };
        let mut request = tonic::Request::new(asked);
        if let Some(id) = replaces
            && let Ok(value) = format!("{id:x}").parse()
        {
            request.metadata_mut().insert(REPLACES, value);
        }
        self.cluster().member_add(request).await.map_err(|status| self.refused(status))?;
        Ok(())
    }

    /// Adds a witness, which votes at once: it has no data to catch up with.
    ///
    /// # Errors
    /// It is refused.
    pub async fn add_witness(&self, peer_url: &str) -> Result<(), StoreError> {
        let asked = MemberAddRequest { peer_ur_ls: vec![peer_url.to_owned()], is_learner: false };
        let mut request = tonic::Request::new(asked);
        request.metadata_mut().insert(ROLE, MetadataValue::from_static(WITNESS_ROLE));
        self.cluster().member_add(request).await.map_err(|status| self.refused(status))?;
        Ok(())
    }

    /// Lets a learner vote.
    ///
    /// # Errors
    /// It is refused, for one that lags too.
    pub async fn promote(&self, id: u64) -> Result<(), StoreError> {
        let asked = MemberPromoteRequest { id };
        self.cluster().member_promote(asked).await.map_err(|status| self.refused(status))?;
        Ok(())
    }

    /// Takes a member out.
    ///
    /// # Errors
    /// It is refused.
    pub async fn remove(&self, id: u64) -> Result<(), StoreError> {
        let asked = MemberRemoveRequest { id };
        self.cluster().member_remove(asked).await.map_err(|status| self.refused(status))?;
        Ok(())
    }

    /// Hands leadership over; this member must lead.
    ///
    /// # Errors
    /// It is refused.
    pub async fn move_leader(&self, to: u64) -> Result<(), StoreError> {
        let asked = MoveLeaderRequest { target_id: to };
        self.maintenance().move_leader(asked).await.map_err(|status| self.refused(status))?;
        Ok(())
    }
}
