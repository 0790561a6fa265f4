//! Cluster: the members and their changes.

use std::sync::Arc;
use std::time::Duration;

use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use quorate_api::etcdserverpb::cluster_server::Cluster;
use quorate_api::etcdserverpb::{
    self as pb, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
    MemberUpdateRequest, MemberUpdateResponse,
};
use quorate_consensus::id::MemberId;
use quorate_consensus::membership::{Member, Membership, Role};
use quorate_replica::change::MembershipChange;
use quorate_replica::event;
use quorate_replica::output::Answer;

use super::kv::other_kind;
use crate::api_error;
use crate::bootstrap::new_member_id;
use crate::node::Node;

/// A change passes through two entries of the log, on members that may be slow.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(15);
/// Metadata of MemberAdd: the id, in hexadecimal, of the lost member whose peer URLs the newcomer takes over.
const REPLACES: &str = "quorate-replaces";
/// Metadata of MemberAdd: `witness` for a newcomer that votes and holds no data.
const ROLE: &str = "quorate-role";

/// The service.
#[derive(Debug)]
pub(super) struct ClusterService(pub(super) Arc<Node>);

fn member(member: &Member) -> pb::Member {
    pb::Member {
        id: member.id.0,
        name: member.name.clone(),
        peer_ur_ls: member.peer_urls.clone(),
        client_ur_ls: member.client_urls.clone(),
        is_learner: member.role == Role::Learner,
    }
}

fn members(membership: &Membership) -> Vec<pb::Member> {
    membership.members.values().map(member).collect()
}

fn check_urls(urls: &[String]) -> Result<(), Status> {
    let valid = |url: &String| {
        let uri: Result<http::Uri, _> = url.parse();
        uri.is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.port().is_some())
    };
    if urls.is_empty() || !urls.iter().all(valid) { Err(api_error::MEMBER_BAD_URLS.into()) } else { Ok(()) }
}

fn replaces(metadata: &MetadataMap) -> Result<Option<MemberId>, Status> {
    let Some(value) = metadata.get(REPLACES) else { return Ok(None) };
    let id = value.to_str().ok().and_then(|text| u64::from_str_radix(text, 16).ok());
    let wrong =
        || Status::invalid_argument(format!("quorate: {REPLACES} must be a member's id in hexadecimal"));
    Ok(Some(MemberId(id.ok_or_else(wrong)?)))
}

fn role(metadata: &MetadataMap, is_learner: bool) -> Result<Role, Status> {
    match metadata.get(ROLE).map(|value| value.as_bytes()) {
        None if is_learner => Ok(Role::Learner),
        None => Ok(Role::Voter),
        Some(b"witness") if !is_learner => Ok(Role::Witness),
        Some(_) => {
            Err(Status::invalid_argument(format!("quorate: {ROLE} must be witness, without is_learner")))
        }
    }
}

impl ClusterService {
    async fn change(&self, change: MembershipChange) -> Result<Membership, Status> {
        match self.0.ask_within(event::Request::Change(change), CHANGE_TIMEOUT).await? {
            Answer::Changed(membership) => Ok(membership),
            Answer::Applied { .. } | Answer::Readable(_) | Answer::Transferred(_) | Answer::Lease { .. } => {
                Err(other_kind())
            }
        }
    }

    fn header(&self) -> Option<pb::ResponseHeader> {
        self.0.header(self.0.revision())
    }

    fn check_learners(&self) -> Result<(), Status> {
        let membership = self.0.shows.membership.borrow();
        let learners = membership.members.values().filter(|member| member.role == Role::Learner).count();
        if learners >= self.0.config.learners_max { Err(api_error::TOO_MANY_LEARNERS.into()) } else { Ok(()) }
    }
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn member_add(
        &self,
        request: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        let replaces = replaces(request.metadata())?;
        let role = role(request.metadata(), request.get_ref().is_learner)?;
        let MemberAddRequest { peer_ur_ls: peer_urls, is_learner } = request.into_inner();
        check_urls(&peer_urls)?;
        if is_learner {
            self.check_learners()?;
        }
        let added = Member {
            id: new_member_id(),
            name: String::new(),
            peer_urls,
            client_urls: Vec::new(),
            role,
            zone: String::new(),
            leader_priority: 0,
        };
        let membership = self.change(MembershipChange::Add { member: added.clone(), replaces }).await?;
        Ok(Response::new(MemberAddResponse {
            header: self.header(),
            member: Some(member(&added)),
            members: members(&membership),
        }))
    }

    async fn member_remove(
        &self,
        request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        let membership = self.change(MembershipChange::Remove(MemberId(request.into_inner().id))).await?;
        Ok(Response::new(MemberRemoveResponse { header: self.header(), members: members(&membership) }))
    }

    async fn member_update(
        &self,
        request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        let MemberUpdateRequest { id, peer_ur_ls: peer_urls } = request.into_inner();
        check_urls(&peer_urls)?;
        let membership = self.change(MembershipChange::UpdatePeerUrls(MemberId(id), peer_urls)).await?;
        Ok(Response::new(MemberUpdateResponse { header: self.header(), members: members(&membership) }))
    }

    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        let members = if request.into_inner().linearizable {
            members(&self.0.confirmed_membership().await?)
        } else {
            members(&self.0.shows.membership.borrow())
        };
        Ok(Response::new(MemberListResponse { header: self.header(), members }))
    }

    async fn member_promote(
        &self,
        request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        let membership = self.change(MembershipChange::Promote(MemberId(request.into_inner().id))).await?;
        Ok(Response::new(MemberPromoteResponse { header: self.header(), members: members(&membership) }))
    }
}
