package isakmp

import "fmt"

// PayloadType says how a payload's body is to be read (RFC 2408 §3.1, IANA
// "isakmp-registry").
type PayloadType uint8

// Payload types. NAT-D and NAT-OA moved twice while NAT traversal was a draft.
const (
	PayloadNone        PayloadType = 0
	PayloadSA          PayloadType = 1
	PayloadProposal    PayloadType = 2
	PayloadTransform   PayloadType = 3
	PayloadKE          PayloadType = 4
	PayloadID          PayloadType = 5
	PayloadCert        PayloadType = 6
	PayloadCertReq     PayloadType = 7
	PayloadHash        PayloadType = 8
	PayloadSig         PayloadType = 9
	PayloadNonce       PayloadType = 10
	PayloadNotify      PayloadType = 11
	PayloadDelete      PayloadType = 12
	PayloadVendorID    PayloadType = 13
	PayloadAttribute   PayloadType = 14  // Mode-Config and XAUTH (draft-dukes-ike-mode-cfg-02 §3.2)
	PayloadNATDDraft4  PayloadType = 15  // NAT-T drafts 04 to 08
	PayloadNATOADraft4 PayloadType = 16  //
	PayloadNATD        PayloadType = 20  // RFC 3947 §3.2
	PayloadNATOA       PayloadType = 21  // RFC 3947 §5.2
	PayloadNATDDraft   PayloadType = 130 // NAT-T drafts 00 to 03
	PayloadNATOADraft  PayloadType = 131 //
	PayloadFragment    PayloadType = 132 // Cisco IKE fragmentation, undocumented
)

var payloadNames = map[PayloadType]string{
	PayloadSA: "SA", PayloadProposal: "P", PayloadTransform: "T", PayloadKE: "KE",
	PayloadID: "ID", PayloadCert: "CERT", PayloadCertReq: "CERTREQ", PayloadHash: "HASH",
	PayloadSig: "SIG", PayloadNonce: "No", PayloadNotify: "N", PayloadDelete: "D",
	PayloadVendorID: "V", PayloadAttribute: "ATTR", PayloadNATDDraft4: "NAT-D",
	PayloadNATOADraft4: "NAT-OA", PayloadNATD: "NAT-D", PayloadNATOA: "NAT-OA",
	PayloadNATDDraft: "NAT-D", PayloadNATOADraft: "NAT-OA", PayloadFragment: "FRAG",
}

// String is the short name that the log uses, as strongSwan writes it.
func (t PayloadType) String() string {
	if s, ok := payloadNames[t]; ok {
		return s
	}
	return fmt.Sprintf("payload(%d)", uint8(t))
}

// ExchangeType says which exchange a message belongs to (RFC 2408 §3.1).
type ExchangeType uint8

// Exchange types.
const (
	MainMode       ExchangeType = 2 // "Identity Protection"
	AggressiveMode ExchangeType = 4
	Informational  ExchangeType = 5
	Transaction    ExchangeType = 6  // XAUTH and Mode-Config
	QuickMode      ExchangeType = 32 // RFC 2409 §5.5
	NewGroupMode   ExchangeType = 33
)

var exchangeNames = map[ExchangeType]string{
	MainMode: "ID_PROT", AggressiveMode: "AGGRESSIVE", Informational: "INFORMATIONAL",
	Transaction: "TRANSACTION", QuickMode: "QUICK_MODE", NewGroupMode: "NEW_GROUP",
}

// String is the name that the log uses, as strongSwan writes it.
func (t ExchangeType) String() string {
	if s, ok := exchangeNames[t]; ok {
		return s
	}
	return fmt.Sprintf("exchange(%d)", uint8(t))
}

// Flags of the ISAKMP header (RFC 2408 §3.1).
type Flags uint8

// Header flags.
const (
	FlagEncrypted Flags = 1 << iota
	FlagCommit
	FlagAuthOnly
)

// ProtocolID names the protocol that a proposal, Notify or Delete is about
// (RFC 2407 §4.4.1).
type ProtocolID uint8

// Protocol IDs.
const (
	ProtoISAKMP ProtocolID = 1
	ProtoAH     ProtocolID = 2
	ProtoESP    ProtocolID = 3
	ProtoIPComp ProtocolID = 4
)

// String is the protocol's name.
func (p ProtocolID) String() string {
	switch p {
	case ProtoISAKMP:
		return "ISAKMP"
	case ProtoAH:
		return "AH"
	case ProtoESP:
		return "ESP"
	case ProtoIPComp:
		return "IPCOMP"
	}
	return fmt.Sprintf("protocol(%d)", uint8(p))
}

// DOI and situation of every SA payload here (RFC 2407 §4.2, §4.6.1).
const (
	DOIIPsec              uint32 = 1
	SituationIdentityOnly uint32 = 1
)

// TransformKeyIKE is the only phase-1 transform ID (RFC 2407 §4.4.2).
const TransformKeyIKE uint8 = 1

// ESP transform IDs (RFC 2407 §4.4.4, RFC 3602 §5.2, RFC 3686, RFC 4106 §8.2).
const (
	ESP3DES     uint8 = 3
	ESPNull     uint8 = 11
	ESPAESCBC   uint8 = 12
	ESPAESCTR   uint8 = 13
	ESPAESGCM8  uint8 = 18
	ESPAESGCM12 uint8 = 19
	ESPAESGCM16 uint8 = 20
)

// Phase-1 attribute types (RFC 2409 Appendix A).
const (
	AttrEncryption   uint16 = 1
	AttrHash         uint16 = 2
	AttrAuthMethod   uint16 = 3
	AttrGroup        uint16 = 4
	AttrLifeType     uint16 = 11
	AttrLifeDuration uint16 = 12
	AttrPRF          uint16 = 13
	AttrKeyLength    uint16 = 14
)

// IPCompDeflate is the IPCOMP transform ID of DEFLATE (RFC 2407 §4.4.5).
const IPCompDeflate uint8 = 2

// Phase-2 attribute types (RFC 2407 §4.5, RFC 4304 §2).
const (
	AttrESPLifeType      uint16 = 1
	AttrESPLifeDuration  uint16 = 2
	AttrESPGroup         uint16 = 3
	AttrESPEncapsulation uint16 = 4
	AttrESPAuth          uint16 = 5
	AttrESPKeyLength     uint16 = 6
	AttrESPKeyRounds     uint16 = 7
	AttrESPESN           uint16 = 11
)

// Values of the life type attributes.
const (
	LifeSeconds   uint16 = 1
	LifeKilobytes uint16 = 2
)

// Phase-1 encryption algorithms (RFC 2409 Appendix A, RFC 3602 §5.1).
const (
	CipherDES    uint16 = 1
	Cipher3DES   uint16 = 5
	CipherAESCBC uint16 = 7
)

// Phase-1 hash algorithms (RFC 2409 Appendix A, IANA "ipsec-registry").
const (
	HashMD5    uint16 = 1
	HashSHA1   uint16 = 2
	HashSHA256 uint16 = 4
	HashSHA384 uint16 = 5
	HashSHA512 uint16 = 6
)

// Authentication methods. Init and Resp tell which side of this exchange gives
// user credentials (draft-ietf-ipsec-isakmp-hybrid-auth-05 §3.2.1,
// draft-beaulieu-ike-xauth-02 §7.2).
const (
	AuthPSK           uint16 = 1
	AuthRSASig        uint16 = 3
	AuthECDSA256      uint16 = 9
	AuthECDSA384      uint16 = 10
	AuthECDSA521      uint16 = 11
	AuthHybridInitRSA uint16 = 64221
	AuthHybridRespRSA uint16 = 64222
	AuthXAUTHInitPSK  uint16 = 65001
	AuthXAUTHRespPSK  uint16 = 65002
	AuthXAUTHInitRSA  uint16 = 65005
	AuthXAUTHRespRSA  uint16 = 65006
)

// Diffie-Hellman groups (RFC 2409 §6, RFC 3526, RFC 5903).
const (
	GroupMODP768  uint16 = 1
	GroupMODP1024 uint16 = 2
	GroupMODP1536 uint16 = 5
	GroupMODP2048 uint16 = 14
	GroupMODP3072 uint16 = 15
	GroupMODP4096 uint16 = 16
	GroupMODP6144 uint16 = 17
	GroupMODP8192 uint16 = 18
	GroupECP256   uint16 = 19
	GroupECP384   uint16 = 20
	GroupECP521   uint16 = 21
)

// Encapsulation modes (RFC 2407 §4.5, RFC 3947 §5.1, NAT-T drafts 00 to 03).
const (
	EncapTunnel         uint16 = 1
	EncapTransport      uint16 = 2
	EncapUDPTunnel      uint16 = 3
	EncapUDPTransport   uint16 = 4
	EncapUDPTunnelDraft uint16 = 61443
)

// ESP authentication algorithms (RFC 2407 §4.5, RFC 4868 §4, RFC 3566 §5).
const (
	ESPAuthMD5     uint16 = 1
	ESPAuthSHA1    uint16 = 2
	ESPAuthSHA256  uint16 = 5
	ESPAuthSHA384  uint16 = 6
	ESPAuthSHA512  uint16 = 7
	ESPAuthAESXCBC uint16 = 9
)

// IDType is the form of an identification (RFC 2407 §4.6.2.1).
type IDType uint8

// ID types.
const (
	IDIPv4Addr   IDType = 1
	IDFQDN       IDType = 2
	IDUserFQDN   IDType = 3
	IDIPv4Subnet IDType = 4
	IDIPv6Addr   IDType = 5
	IDIPv6Subnet IDType = 6
	IDIPv4Range  IDType = 7
	IDIPv6Range  IDType = 8
	IDDERDN      IDType = 9
	IDDERGN      IDType = 10
	IDKeyID      IDType = 11
)

// Certificate encodings (RFC 2408 §3.9).
const (
	CertPKCS7   uint8 = 1
	CertX509Sig uint8 = 4
	CertCRL     uint8 = 7
)

// NotifyType says what a Notify payload reports (RFC 2408 §3.14.1).
type NotifyType uint16

// Notify types: errors below 16384, status above (RFC 2408 §3.14.1, RFC 2407
// §4.6.3, RFC 3706 §5.2).
const (
	NotifyInvalidPayloadType   NotifyType = 1
	NotifyInvalidCookie        NotifyType = 4
	NotifyInvalidExchangeType  NotifyType = 7
	NotifyInvalidMessageID     NotifyType = 9
	NotifyInvalidSPI           NotifyType = 11
	NotifyNoProposalChosen     NotifyType = 14
	NotifyBadProposalSyntax    NotifyType = 15
	NotifyPayloadMalformed     NotifyType = 16
	NotifyInvalidKeyInfo       NotifyType = 17
	NotifyInvalidIDInfo        NotifyType = 18
	NotifyInvalidHash          NotifyType = 23
	NotifyAuthenticationFailed NotifyType = 24
	NotifyInvalidSignature     NotifyType = 25
	NotifyCertUnavailable      NotifyType = 28
	NotifyUnsupportedExchange  NotifyType = 29
	NotifyConnected            NotifyType = 16384
	NotifyResponderLifetime    NotifyType = 24576
	NotifyReplayStatus         NotifyType = 24577
	NotifyInitialContact       NotifyType = 24578
	NotifyRUThere              NotifyType = 36136
	NotifyRUThereAck           NotifyType = 36137
	NotifyUnityLoadBalance     NotifyType = 40501
	NotifyUnityGroupHash       NotifyType = 40503
)

var notifyNames = map[NotifyType]string{
	NotifyInvalidPayloadType: "INVALID_PAYLOAD_TYPE", 2: "DOI_NOT_SUPPORTED", 3: "SITUATION_NOT_SUPPORTED",
	NotifyInvalidCookie: "INVALID_COOKIE", 5: "INVALID_MAJOR_VERSION", 6: "INVALID_MINOR_VERSION",
	NotifyInvalidExchangeType: "INVALID_EXCHANGE_TYPE", 8: "INVALID_FLAGS", NotifyInvalidMessageID: "INVALID_MESSAGE_ID",
	10: "INVALID_PROTOCOL_ID", NotifyInvalidSPI: "INVALID_SPI", 12: "INVALID_TRANSFORM_ID",
	13: "ATTRIBUTES_NOT_SUPPORTED", NotifyNoProposalChosen: "NO_PROPOSAL_CHOSEN",
	NotifyBadProposalSyntax: "BAD_PROPOSAL_SYNTAX", NotifyPayloadMalformed: "PAYLOAD_MALFORMED",
	NotifyInvalidKeyInfo: "INVALID_KEY_INFORMATION", NotifyInvalidIDInfo: "INVALID_ID_INFORMATION",
	19: "INVALID_CERT_ENCODING", 20: "INVALID_CERTIFICATE", 21: "CERT_TYPE_UNSUPPORTED", 22: "INVALID_CERT_AUTHORITY",
	NotifyInvalidHash: "INVALID_HASH_INFORMATION", NotifyAuthenticationFailed: "AUTHENTICATION_FAILED",
	NotifyInvalidSignature: "INVALID_SIGNATURE", 26: "ADDRESS_NOTIFICATION", 27: "NOTIFY_SA_LIFETIME",
	NotifyCertUnavailable: "CERTIFICATE_UNAVAILABLE", NotifyUnsupportedExchange: "UNSUPPORTED_EXCHANGE_TYPE",
	30: "UNEQUAL_PAYLOAD_LENGTHS", NotifyConnected: "CONNECTED", NotifyResponderLifetime: "RESPONDER_LIFETIME",
	NotifyReplayStatus: "REPLAY_STATUS", NotifyInitialContact: "INITIAL_CONTACT", NotifyRUThere: "R_U_THERE",
	NotifyRUThereAck: "R_U_THERE_ACK", NotifyUnityLoadBalance: "UNITY_LOAD_BALANCE", NotifyUnityGroupHash: "UNITY_GROUP_HASH",
}

// String is the name that the log uses, as strongSwan writes it.
func (t NotifyType) String() string {
	if s, ok := notifyNames[t]; ok {
		return s
	}
	return fmt.Sprintf("notify(%d)", uint16(t))
}

// IsError reports whether t is in the range of errors, private ones included
// (RFC 2408 §3.14.1).
func (t NotifyType) IsError() bool { return t < NotifyConnected }

// ConfigType is the message type of an Attribute payload
// (draft-dukes-ike-mode-cfg-02 §3.2).
type ConfigType uint8

// Attribute payload message types.
const (
	ConfigRequest ConfigType = 1
	ConfigReply   ConfigType = 2
	ConfigSet     ConfigType = 3
	ConfigAck     ConfigType = 4
)

// String is the name in the standard.
func (t ConfigType) String() string {
	switch t {
	case ConfigRequest:
		return "REQUEST"
	case ConfigReply:
		return "REPLY"
	case ConfigSet:
		return "SET"
	case ConfigAck:
		return "ACK"
	}
	return fmt.Sprintf("config(%d)", uint8(t))
}

// Mode-Config attributes (draft-dukes-ike-mode-cfg-02 §3.4).
const (
	CfgIP4Address         uint16 = 1
	CfgIP4Netmask         uint16 = 2
	CfgIP4DNS             uint16 = 3
	CfgIP4NBNS            uint16 = 4
	CfgAddressExpiry      uint16 = 5
	CfgIP4DHCP            uint16 = 6
	CfgApplicationVersion uint16 = 7
	CfgIP6Address         uint16 = 8
	CfgIP6DNS             uint16 = 10
	CfgIP6NBNS            uint16 = 11
	CfgIP6DHCP            uint16 = 12
	CfgIP4Subnet          uint16 = 13
	CfgSupported          uint16 = 14
	CfgIP6Subnet          uint16 = 15
)

// Cisco Unity attributes, undocumented; as racoon, vpnc and strongSwan use them.
const (
	UnityBanner        uint16 = 28672
	UnitySavePassword  uint16 = 28673
	UnityDefDomain     uint16 = 28674
	UnitySplitDNS      uint16 = 28675
	UnitySplitInclude  uint16 = 28676
	UnityNATTPort      uint16 = 28677
	UnityLocalLAN      uint16 = 28678
	UnityPFS           uint16 = 28679
	UnityFWType        uint16 = 28680
	UnityBackupServers uint16 = 28681
	UnityDDNSHostname  uint16 = 28682
)

// XAUTH attributes (draft-beaulieu-ike-xauth-02 §6.2).
const (
	XAuthType      uint16 = 16520
	XAuthUserName  uint16 = 16521
	XAuthPassword  uint16 = 16522
	XAuthPasscode  uint16 = 16523
	XAuthMessage   uint16 = 16524
	XAuthChallenge uint16 = 16525
	XAuthDomain    uint16 = 16526
	XAuthStatus    uint16 = 16527
	XAuthNextPIN   uint16 = 16528
	XAuthAnswer    uint16 = 16529
)

// Values of the XAUTH STATUS attribute.
const (
	XAuthFail uint16 = 0
	XAuthOK   uint16 = 1
)
