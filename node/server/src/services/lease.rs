//! Leases: granted and revoked through the log, renewed and timed by the leader.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use quorate_api::etcdserverpb::lease_server::Lease;
use quorate_api::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
};
use quorate_replica::event;
use quorate_replica::output::Answer;
use quorate_state::command::{CommandKind, LeaseGrant, LeaseRevoke};
use quorate_state::error::MachineError;

use super::kv::other_kind;
use crate::api_error;
use crate::node::Node;

/// The longest time to live (etcd `lessor.go`).
const TTL_MAX_S: i64 = 9_000_000_000;
/// Renewals answered but not read by the client, at most; then its next one waits.
const RENEWALS_MAX: usize = 64;

/// The service.
#[derive(Debug)]
pub(super) struct LeaseService(pub(super) Arc<Node>);

fn machine(error: &MachineError) -> Status {
    tracing::error!(error = error as &dyn std::error::Error, "a read failed");
    Status::internal("quorate: the backend failed to read")
}

/// Seconds left and granted; -1 left if there is none.
async fn ask(node: &Node, request: event::Request) -> Result<(i64, i64), Status> {
    match node.ask(request).await? {
        Answer::Lease { ttl_s, granted_s } => Ok((ttl_s, granted_s)),
        Answer::Applied { .. } | Answer::Readable(_) | Answer::Changed(_) | Answer::Transferred(_) => {
            Err(other_kind())
        }
    }
}

async fn renew(
    node: Arc<Node>,
    mut requests: Streaming<LeaseKeepAliveRequest>,
    answers: mpsc::Sender<Result<LeaseKeepAliveResponse, Status>>,
) {
    let mut stopping = node.stopping.subscribe();
    loop {
        let next = tokio::select! {
            next = requests.message() => next,
            () = crate::node::ended(&mut stopping) => {
                // The client may have gone; then nobody waits for this.
                let _ = answers.send(Err(api_error::STOPPED.into())).await;
                return;
            }
        };
        let Ok(Some(LeaseKeepAliveRequest { id })) = next else { return };
        let answer = ask(&node, event::Request::KeepAlive(id)).await.map(|(ttl_s, _)| {
            LeaseKeepAliveResponse { header: node.header(node.revision()), id, ttl: ttl_s.max(0) }
        });
        let failed = answer.is_err();
        if answers.send(answer).await.is_err() || failed {
            return;
        }
    }
}

#[tonic::async_trait]
impl Lease for LeaseService {
    type LeaseKeepAliveStream = ReceiverStream<Result<LeaseKeepAliveResponse, Status>>;

    async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        let LeaseGrantRequest { ttl, id } = request.into_inner();
        if ttl > TTL_MAX_S {
            return Err(api_error::LEASE_TTL_TOO_LARGE.into());
        }
        self.0.check_whole()?;
        self.0.check_room()?;
        let id = if id == 0 { self.0.new_lease_id() } else { id };
        // A lease outlives an election, else a new leader could not learn of its renewals in time.
        let shortest_s =
            i64::try_from((self.0.config.election_ms * 3 / 2).div_ceil(1_000)).unwrap_or(TTL_MAX_S);
        let ttl_s = ttl.max(shortest_s);
        let response = self.0.command(CommandKind::LeaseGrant(LeaseGrant { id, ttl_s })).await?;
        let header = self.0.header(response.revision);
        Ok(Response::new(LeaseGrantResponse { header, id, ttl: ttl_s, error: String::new() }))
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        let revoke = LeaseRevoke { id: request.into_inner().id, expired_in_epoch: 0 };
        let response = self.0.command(CommandKind::LeaseRevoke(revoke)).await?;
        Ok(Response::new(LeaseRevokeResponse { header: self.0.header(response.revision) }))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let (answers, receiver) = mpsc::channel(RENEWALS_MAX);
        tokio::spawn(renew(Arc::clone(&self.0), request.into_inner(), answers));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        let LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        let (ttl, granted_ttl) = ask(&self.0, event::Request::TimeToLive(id)).await?;
        let keys = if keys && ttl >= 0 {
            self.0.reader(false).await?.lease_keys(id).map_err(|error| machine(&error))?
        } else {
            Vec::new()
        };
        let header = self.0.header(self.0.revision());
        Ok(Response::new(LeaseTimeToLiveResponse { header, id, ttl, granted_ttl, keys }))
    }

    async fn lease_leases(
        &self,
        _: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        let reader = self.0.reader(false).await?;
        let leases = reader.leases().map_err(|error| machine(&error))?;
        let leases = leases.into_iter().map(|(id, _)| LeaseStatus { id }).collect();
        Ok(Response::new(LeaseLeasesResponse { header: self.0.header(reader.revision()), leases }))
    }
}
