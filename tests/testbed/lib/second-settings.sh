# shellcheck shell=bash
# Names and places of the second node. Sourced before node.sh.

NODE=second
NODE_PODS=10.244.1.0/24
# The link between the nodes: its two ends.
LINK_FIRST=10.244.2.1
NODE_IP=10.244.2.2
NODE_DIR=$RUN/second
NODE_CGROUP=$NAME/second
NODE_KUBELET=kubelet-second
# Only pods that tolerate this run there: a test that does not know the node must not lose its pods with it.
NODE_TAINTS='{key: toezicht.dev/second-node, effect: NoSchedule}'
