//! Maintenance: what an operator asks of one member.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use quorate_api::etcdserverpb::alarm_request::AlarmAction;
use quorate_api::etcdserverpb::maintenance_server::Maintenance;
use quorate_api::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, DefragmentResponse,
    DowngradeRequest, DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest, HashResponse,
    MoveLeaderRequest, MoveLeaderResponse, SnapshotRequest, SnapshotResponse, StatusRequest, StatusResponse,
};
use quorate_consensus::id::MemberId;
use quorate_consensus::membership::Role;
use quorate_replica::event;
use quorate_state::command::{Alarm, AlarmChange, CommandKind};
use quorate_state::response::Body;
use quorate_storage::snapshot::{Info, Writer};

use super::kv::other_kind;
use crate::api_error;
use crate::http::ETCD_VERSION;
use crate::node::Node;
use crate::scans::Ended;

/// The target must catch up first.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(10);
/// Pieces of a snapshot that wait for the client.
const PIECES_MAX: usize = 4;
/// What etcd calls the version of what it stores.
const STORAGE_VERSION: &str = "3.7.0";

/// The service.
#[derive(Debug)]
pub(super) struct MaintenanceService(pub(super) Arc<Node>);

impl MaintenanceService {
    async fn hash(&self, revision: i64) -> Result<(u32, i64, i64), Status> {
        let reader = self.0.local_reader().ok_or(api_error::STOPPED)?;
        let (newest, compacted) = (reader.revision(), reader.compacted());
        let hash = self
            .0
            .hashes
            .run(move || reader.hash(revision))
            .await
            .map_err(|Ended| api_error::STOPPED)?
            .map_err(|error| api_error::read(&error))?;
        Ok((hash, if revision == 0 { newest } else { revision }, compacted))
    }

    async fn change_alarm(&self, change: AlarmChange) -> Result<Vec<Alarm>, Status> {
        match self.0.command(CommandKind::Alarm(change)).await?.body {
            Body::Alarm(alarms) => Ok(alarms),
            Body::Put { .. }
            | Body::DeleteRange { .. }
            | Body::Range(_)
            | Body::Txn(_)
            | Body::Compact
            | Body::LeaseGrant
            | Body::LeaseRevoke
            | Body::RaiseLevel => Err(other_kind()),
        }
    }

    fn errors(&self) -> Vec<String> {
        let mut errors = Vec::new();
        if !self.0.has_leader() {
            errors.push(api_error::NO_LEADER.text.to_owned());
        }
        errors.extend(self.0.alarms().into_iter().map(|alarm| {
            let kind = AlarmType::try_from(alarm.kind).unwrap_or_default();
            format!("memberID:{} alarm:{} ", alarm.member, kind.as_str_name())
        }));
        errors
    }
}

#[tonic::async_trait]
impl Maintenance for MaintenanceService {
    type SnapshotStream = ReceiverStream<Result<SnapshotResponse, Status>>;

    async fn alarm(&self, request: Request<AlarmRequest>) -> Result<Response<AlarmResponse>, Status> {
        let request = request.into_inner();
        let (kind, member) = (request.alarm, request.member_id);
        let change = |raise| AlarmChange { alarm: Alarm { member, kind }, raise };
        let alarms = match request.action() {
            AlarmAction::Get => {
                let asked = |alarm: &Alarm| kind == i32::from(AlarmType::None) || alarm.kind == kind;
                self.0.alarms().into_iter().filter(asked).collect()
            }
            AlarmAction::Activate => self.change_alarm(change(true)).await?,
            AlarmAction::Deactivate => self.change_alarm(change(false)).await?,
        };
        let shown = |alarm: Alarm| AlarmMember { member_id: alarm.member, alarm: alarm.kind };
        let alarms = alarms.into_iter().map(shown).collect();
        Ok(Response::new(AlarmResponse { header: self.0.header(self.0.revision()), alarms }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let node = &self.0;
        let (size, in_use) = node.backend.size_bytes();
        let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let leadership = *node.shows.leadership.borrow();
        let commit = node.shows.status.borrow().as_ref().map_or(0, |status| status.commit.0);
        Ok(Response::new(StatusResponse {
            header: node.header(node.revision()),
            version: ETCD_VERSION.to_owned(),
            db_size: whole(size),
            leader: leadership.leader.map_or(0, |id| id.0),
            raft_index: commit,
            raft_term: leadership.epoch.0,
            raft_applied_index: node.applied().0,
            errors: self.errors(),
            db_size_in_use: whole(in_use),
            is_learner: node.is_learner(),
            storage_version: STORAGE_VERSION.to_owned(),
            db_size_quota: whole(node.config.quota_bytes),
            ..Default::default()
        }))
    }

    /// There is nothing to defragment: the engine compacts in the background.
    async fn defragment(
        &self,
        _: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        Ok(Response::new(DefragmentResponse { header: self.0.header(self.0.revision()) }))
    }

    async fn hash(&self, _: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        let (hash, revision, _) = self.hash(0).await?;
        Ok(Response::new(HashResponse { header: self.0.header(revision), hash }))
    }

    async fn hash_kv(&self, request: Request<HashKvRequest>) -> Result<Response<HashKvResponse>, Status> {
        let (hash, hash_revision, compact_revision) = self.hash(request.into_inner().revision).await?;
        let header = self.0.header(self.0.revision());
        Ok(Response::new(HashKvResponse { header, hash, compact_revision, hash_revision }))
    }

    async fn snapshot(&self, _: Request<SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        let reader = self.0.local_reader().ok_or(api_error::STOPPED)?;
        let (pieces, receiver) = mpsc::channel(PIECES_MAX);
        let header = self.0.header(reader.revision());
        let info = Info {
            cluster_id: self.0.cluster_id,
            member_id: self.0.id.0,
            revision: u64::try_from(reader.revision()).unwrap_or(0),
        };
        // Reads the disk as fast as the client takes it; ends with the client.
        tokio::task::spawn_blocking(move || {
            let mut writer = Writer::new(Arc::clone(reader.view()), info);
            loop {
                let next = match writer.next_piece() {
                    Ok(None) => return,
                    Ok(Some(blob)) => {
                        let version = STORAGE_VERSION.to_owned();
                        Ok(SnapshotResponse { header, remaining_bytes: 0, blob, version })
                    }
                    Err(error) => Err(Status::internal(format!("quorate: the snapshot ended: {error}"))),
                };
                let failed = next.is_err();
                if pieces.blocking_send(next).is_err() || failed {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn move_leader(
        &self,
        request: Request<MoveLeaderRequest>,
    ) -> Result<Response<MoveLeaderResponse>, Status> {
        let target = MemberId(request.into_inner().target_id);
        if self.0.shows.leadership.borrow().leader != Some(self.0.id) {
            return Err(api_error::NOT_LEADER.into());
        }
        let votes = {
            let membership = self.0.shows.membership.borrow();
            membership.members.get(&target).is_some_and(|member| member.role == Role::Voter)
        };
        if !votes {
            return Err(api_error::BAD_LEADER_TRANSFEREE.into());
        }
        self.0.ask_within(event::Request::Transfer(Some(target)), TRANSFER_TIMEOUT).await?;
        Ok(Response::new(MoveLeaderResponse { header: self.0.header(self.0.revision()) }))
    }

    async fn downgrade(&self, _: Request<DowngradeRequest>) -> Result<Response<DowngradeResponse>, Status> {
        Err(api_error::not_there_yet("Downgrade"))
    }
}
