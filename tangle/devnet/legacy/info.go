package legacy

import (
	"github.com/iotaledger/iota.go/consts"
	"github.com/iotaledger/iota.go/trinary"
)

type nodeInfo struct {
	AppName                            string       `json:"appName"`
	AppVersion                         string       `json:"appVersion"`
	LatestMilestone                    trinary.Hash `json:"latestMilestone"`
	LatestMilestoneIndex               int          `json:"latestMilestoneIndex"`
	LatestSolidSubtangleMilestone      trinary.Hash `json:"latestSolidSubtangleMilestone"`
	LatestSolidSubtangleMilestoneIndex int          `json:"latestSolidSubtangleMilestoneIndex"`
	IsSynced                           *bool        `json:"isSynced,omitempty"` // not in IRI
	IsHealthy                          *bool        `json:"isHealthy,omitempty"`
	MilestoneStartIndex                int          `json:"milestoneStartIndex"`
	LastSnapshottedMilestoneIndex      int          `json:"lastSnapshottedMilestoneIndex"`
	Neighbors                          int          `json:"neighbors"`
	Time                               int64        `json:"time"`
	Tips                               int          `json:"tips"`
	TransactionsToRequest              int          `json:"transactionsToRequest"`
	Features                           []string     `json:"features"`
	CoordinatorAddress                 trinary.Hash `json:"coordinatorAddress"`
	timing
}

func (n *Node) getNodeInfo([]byte) (any, error) {
	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	synced, healthy := n.synced(), n.healthy()
	info := nodeInfo{
		AppName: "HORNET", AppVersion: "0.5.6",
		LatestMilestone: consts.NullHashTrytes, LatestSolidSubtangleMilestone: consts.NullHashTrytes,
		IsSynced: &synced, IsHealthy: &healthy,
		MilestoneStartIndex: n.start, LastSnapshottedMilestoneIndex: n.start,
		Neighbors:          n.neighbors(),
		Time:               n.tangle.now().Unix() * 1000,
		Features:           []string{"RemotePOW", "WereAddressesSpentFrom"},
		CoordinatorAddress: n.tangle.coordinator,
	}
	if m := n.newest(); m != nil {
		info.LatestMilestone, info.LatestMilestoneIndex = m.hash, m.index
	}
	if m := n.solid(); m != nil {
		info.LatestSolidSubtangleMilestone, info.LatestSolidSubtangleMilestoneIndex = m.hash, m.index
	}
	if synced {
		info.Tips = 2
	}
	return info, nil
}
