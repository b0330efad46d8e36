"""The table: which check decides which requirements, or the reason why they do not apply."""

from __future__ import annotations

from tests.conformance.sparkplug import requirements as r
from tests.conformance.sparkplug.requirements import Check, NotApplicable

_VERDICTS: tuple[tuple[Check | NotApplicable, str], ...] = (
    (
        r.no_strange_ids,
        """
        intro-group-id-string intro-group-id-chars intro-edge-node-id-string intro-edge-node-id-chars
        intro-device-id-string intro-device-id-chars topic-structure-namespace-valid-group-id
        topic-structure-namespace-valid-edge-node-id topic-structure-namespace-valid-device-id
        """,
    ),
    (
        r.OPERATOR,
        """
        intro-edge-node-id-uniqueness topic-structure-namespace-unique-edge-node-descriptor
        payloads-nbirth-edge-node-descriptor
        """,
    ),
    (
        r.by_exception,
        """
        principles-rbe-recommended operational-behavior-data-publish-nbirth-change
        operational-behavior-data-publish-dbirth-change
        """,
    ),
    (r.nbirth_first, "principles-birth-certificates-order message-flow-device-birth-publish-nbirth-wait"),
    (r.clean, "principles-persistence-clean-session-311"),
    (r.MQTT_5, "principles-persistence-clean-session-50 payloads-ndeath-will-message-publisher-disconnect-mqtt50"),
    (
        r.distinct_by_case,
        "case-sensitivity-sparkplug-ids case-sensitivity-metric-names topic-structure-namespace-unique-device-id",
    ),
    (r.topic("NBIRTH"), "topic-structure topics-nbirth-topic message-flow-edge-node-birth-publish-nbirth-topic"),
    (r.topic("NDATA"), "topic-structure-namespace-a topics-ndata-topic"),
    (NotApplicable("it allows something"), "topic-structure-namespace-duplicate-device-id-across-edge-node"),
    (r.topic("DDATA"), "topic-structure-namespace-device-id-associated-message-types topics-ddata-topic"),
    (r.topic("NDEATH"), "topic-structure-namespace-device-id-non-associated-message-types topics-ndeath-topic"),
    (
        r.qos_0("NBIRTH"),
        """
        topics-nbirth-mqtt message-flow-edge-node-birth-publish-nbirth-qos
        message-flow-edge-node-birth-publish-nbirth-retained payloads-nbirth-qos payloads-nbirth-retain
        """,
    ),
    (
        r.nbirth_seq_0,
        """
        topics-nbirth-seq-num message-flow-edge-node-birth-publish-nbirth-payload-seq
        payloads-sequence-num-zero-nbirth payloads-nbirth-seq
        """,
    ),
    (r.has_timestamp("NBIRTH"), "topics-nbirth-timestamp payloads-nbirth-timestamp"),
    (
        r.births_hold_all,
        """
        topics-nbirth-metric-reqs topics-dbirth-metric-reqs operational-behavior-data-publish-nbirth
        operational-behavior-data-publish-dbirth
        """,
    ),
    (
        r.metrics_of_births("NBIRTH"),
        """
        topics-nbirth-metrics operational-behavior-data-publish-nbirth-values payloads-metric-datatype-value-type
        payloads-metric-datatype-value
        """,
    ),
    (
        r.TEMPLATES,
        """
        topics-nbirth-templates payloads-template-definition-nbirth-only payloads-template-definition-is-definition
        payloads-template-definition-ref payloads-template-definition-members payloads-template-definition-nbirth
        payloads-template-definition-parameters payloads-template-definition-parameters-default
        payloads-template-instance-is-definition payloads-template-instance-ref payloads-template-instance-members
        payloads-template-instance-members-birth payloads-template-instance-members-data
        payloads-template-instance-parameters payloads-template-version payloads-template-ref-definition
        payloads-template-ref-instance payloads-template-is-definition payloads-template-is-definition-definition
        payloads-template-is-definition-instance payloads-template-parameter-name-required
        payloads-template-parameter-name-type payloads-template-parameter-value-type
        payloads-template-parameter-type-value payloads-template-parameter-type-req payloads-template-parameter-value
        """,
    ),
    (
        r.bd_seq_in_births,
        """
        topics-nbirth-bdseq-included topics-nbirth-bdseq-matching
        message-flow-edge-node-birth-publish-nbirth-payload-bdSeq payloads-nbirth-bdseq payloads-nbirth-bdseq-repeat
        payloads-ndeath-bdseq
        """,
    ),
    (r.bd_seq_counts, "topics-nbirth-bdseq-increment message-flow-edge-node-birth-publish-will-message-payload-bdSeq"),
    (
        r.rebirth_metric,
        """
        topics-nbirth-rebirth-metric operational-behavior-data-commands-rebirth-name
        operational-behavior-data-commands-rebirth-name-aliases operational-behavior-data-commands-rebirth-datatype
        operational-behavior-data-commands-rebirth-value payloads-nbirth-rebirth-req
        """,
    ),
    (r.qos_0("NDATA"), "topics-ndata-mqtt payloads-ndata-qos payloads-ndata-retain"),
    (
        r.seq_goes_on,
        """
        topics-ndata-seq-num topics-dbirth-seq topics-ddata-seq-num topics-ddeath-seq-num
        message-flow-device-birth-publish-dbirth-payload-seq payloads-sequence-num-always-included
        payloads-sequence-num-incrementing payloads-dbirth-seq payloads-dbirth-seq-inc payloads-ndata-seq
        payloads-ndata-seq-inc payloads-ddata-seq payloads-ddata-seq-inc payloads-ddeath-seq payloads-ddeath-seq-inc
        payloads-ddeath-seq-number
        """,
    ),
    (r.has_timestamp("NDATA"), "topics-ndata-timestamp payloads-timestamp-in-UTC payloads-ndata-timestamp"),
    (r.changes_are_told, "topics-ndata-payload topics-ddata-payload"),
    (r.only_bd_seq, "topics-ndeath-payload message-flow-edge-node-birth-publish-will-message-payload"),
    (r.no_seq, "topics-ndeath-seq payloads-ndeath-seq"),
    (
        r.subscribes_first,
        """
        topics-ncmd-topic topics-dcmd-topic message-flow-edge-node-ncmd-subscribe
        message-flow-edge-node-birth-publish-connect message-flow-device-dcmd-subscribe
        operational-behavior-primary-application-state-with-multiple-servers-state-subs
        """,
    ),
    (
        r.HOSTS,
        """
        topics-ncmd-mqtt topics-ncmd-timestamp topics-ncmd-payload topics-dcmd-mqtt topics-dcmd-timestamp
        topics-dcmd-payload operational-behavior-data-commands-ncmd-rebirth-verb
        operational-behavior-data-commands-ncmd-rebirth-name operational-behavior-data-commands-ncmd-rebirth-value
        operational-behavior-data-commands-ncmd-verb operational-behavior-data-commands-ncmd-metric-name
        operational-behavior-data-commands-ncmd-metric-value payloads-name-cmd-requirement payloads-ncmd-timestamp
        payloads-ncmd-seq payloads-ncmd-qos payloads-ncmd-retain payloads-dcmd-timestamp payloads-dcmd-seq
        payloads-dcmd-qos payloads-dcmd-retain
        """,
    ),
    (r.topic("DBIRTH"), "topics-dbirth-topic message-flow-device-birth-publish-dbirth-topic"),
    (
        r.qos_0("DBIRTH"),
        """
        topics-dbirth-mqtt message-flow-device-birth-publish-dbirth-qos
        message-flow-device-birth-publish-dbirth-retained payloads-dbirth-qos payloads-dbirth-retain
        """,
    ),
    (r.has_timestamp("DBIRTH"), "topics-dbirth-timestamp payloads-dbirth-timestamp"),
    (
        r.metrics_of_births("DBIRTH"),
        "topics-dbirth-metrics operational-behavior-data-publish-dbirth-values payloads-metric-datatype-req",
    ),
    (r.qos_0("DDATA"), "topics-ddata-mqtt payloads-ddata-qos payloads-ddata-retain"),
    (r.has_timestamp("DDATA"), "topics-ddata-timestamp payloads-ddata-timestamp"),
    (r.topic("DDEATH"), "topics-ddeath-topic"),
    (r.qos_0("DDEATH"), "topics-ddeath-mqtt"),
    (
        r.will,
        """
        message-flow-edge-node-birth-publish-will-message message-flow-edge-node-birth-publish-will-message-topic
        message-flow-edge-node-birth-publish-will-message-qos
        message-flow-edge-node-birth-publish-will-message-will-retained payloads-ndeath-will-message
        payloads-ndeath-will-message-qos payloads-ndeath-will-message-retain
        """,
    ),
    (
        r.waits_for_host,
        """
        message-flow-edge-node-birth-publish-phid-wait message-flow-edge-node-birth-publish-phid-wait-id
        message-flow-edge-node-birth-publish-phid-wait-online operational-behavior-edge-node-birth-sequence-wait
        """,
    ),
    (
        r.ignores_stale,
        """
        message-flow-edge-node-birth-publish-phid-wait-timestamp
        operational-behavior-edge-node-termination-host-offline-timestamp
        """,
    ),
    (r.decodes, "message-flow-edge-node-birth-publish-nbirth-payload message-flow-device-birth-publish-dbirth-payload"),
    (
        r.walks,
        """
        message-flow-edge-node-birth-publish-phid-offline operational-behavior-edge-node-termination-host-offline
        operational-behavior-edge-node-termination-host-offline-reconnect
        operational-behavior-primary-application-state-with-multiple-servers-walk
        """,
    ),
    (
        r.ndeath_then_disconnect,
        """
        operational-behavior-edge-node-intentional-disconnect-ndeath
        operational-behavior-edge-node-intentional-disconnect-packet payloads-ndeath-will-message-publisher
        payloads-ndeath-will-message-publisher-disconnect-mqtt311
        """,
    ),
    (r.dbirth_beside_nbirth, "message-flow-device-birth-publish-dbirth-match-edge-node-topic"),
    (r.device_dies_and_returns, "operational-behavior-device-ddeath"),
    (r.one_at_a_time, "operational-behavior-primary-application-state-with-multiple-servers-single-server"),
    (
        r.in_order_of_time,
        "operational-behavior-data-publish-nbirth-order operational-behavior-data-publish-dbirth-order",
    ),
    (
        r.rebirth,
        """
        operational-behavior-data-commands-rebirth-action-1 operational-behavior-data-commands-rebirth-action-2
        operational-behavior-data-commands-rebirth-action-3
        """,
    ),
    (
        r.writes,
        """
        operational-behavior-data-commands-dcmd-verb operational-behavior-data-commands-dcmd-metric-name
        operational-behavior-data-commands-dcmd-metric-value
        """,
    ),
    (r.names_no_aliases, "payloads-name-requirement"),
    (r.ALIASES, "payloads-alias-uniqueness payloads-alias-birth-requirement payloads-alias-data-cmd-requirement"),
    (r.metric_timestamps, "payloads-name-birth-data-requirement payloads-metric-timestamp-in-UTC"),
    (r.no_types_in_data, "payloads-metric-datatype-not-req"),
    (
        r.quality,
        """
        payloads-propertyset-keys-array-size payloads-propertyset-values-array-size
        payloads-metric-propertyvalue-type-type payloads-metric-propertyvalue-type-value
        payloads-metric-propertyvalue-type-req payloads-propertyset-quality-value-type
        payloads-propertyset-quality-value-value
        """,
    ),
    (
        r.DATA_SETS,
        """
        payloads-dataset-column-size payloads-dataset-column-num-headers payloads-dataset-types-def
        payloads-dataset-types-num payloads-dataset-types-type payloads-dataset-types-value
        payloads-dataset-parameter-type-req payloads-template-dataset-value
        """,
    ),
    (r.dbirths_before_data, "payloads-dbirth-order payloads-ndata-order payloads-ddata-order"),
    (r.has_timestamp("DDEATH"), "payloads-ddeath-timestamp"),
)

REQUIREMENTS: dict[str, Check | NotApplicable] = {
    f"tck-id-{name}": check for check, names in _VERDICTS for name in names.split()
}

BEYOND: dict[str, Check] = {
    "zeros are on the wire": r.zeros_are_there,
    "a lost connection leaves the will": r.lost_leaves_will,
    "what waited is told as past": r.past_is_told_as_past,
}
"""What no id asks for."""
