// Stand-in for iphlpapi.dll: Wine's own, which now is iphlpwine.dll and only lists what Linux
// has, with the interfaces of wintun's, and with the calls that change something. What these
// do is kept and told, but nothing of Linux changes.
#include "computer.h"

LONG NTAPI RtlIpv6StringToAddressW(const WCHAR *text, WCHAR **end, struct in6_addr *address);

static void *wines(const char *name) { return (void *)GetProcAddress(LoadLibraryA("iphlpwine.dll"), name); }

// WINES is Wine's function of the name.
#define WINES(name) ((typeof(name) *)wines(#name))

static struct adapter *by_luid(struct computer *c, NET_LUID luid)
{
	for (int i = 0; i < ADAPTERS; i++)
		if (c->adapter[i].process && c->adapter[i].luid.Value == luid.Value)
			return &c->adapter[i];
	return NULL;
}

// name is how people call an interface.
static const WCHAR *name(struct computer *c, NET_LUID luid)
{
	static WCHAR alias[IF_MAX_STRING_SIZE + 1];
	struct adapter *a = by_luid(c, luid);
	if (a)
		return a->name;
	return WINES(ConvertInterfaceLuidToAlias)(&luid, alias, IF_MAX_STRING_SIZE) ? NULL : alias;
}

static const char *text(const SOCKADDR_INET *a)
{
	static char texts[2][64];
	static int next;
	char *t = texts[next ^= 1];
	if (a->si_family == AF_INET6)
		RtlIpv6AddressToStringA(&a->Ipv6.sin6_addr, t);
	else
		RtlIpv4AddressToStringA(&a->Ipv4.sin_addr, t);
	return t;
}

static BOOL same(const SOCKADDR_INET *a, const SOCKADDR_INET *b)
{
	if (a->si_family != b->si_family)
		return FALSE;
	if (a->si_family == AF_INET6)
		return !memcmp(&a->Ipv6.sin6_addr, &b->Ipv6.sin6_addr, sizeof a->Ipv6.sin6_addr);
	return a->Ipv4.sin_addr.s_addr == b->Ipv4.sin_addr.s_addr;
}

// Whoever wants to know of changes is told by a thread of the system's, after the call.
static struct listener {
	struct listener *next;
	void (WINAPI *callback)(void *context, void *row, MIB_NOTIFICATION_TYPE type);
	void *context;
	char about;
} *listeners;
static SRWLOCK listening = SRWLOCK_INIT;

static DWORD WINAPI tell(void *about)
{
	static char row[4096]; // whoever looks at it finds nothing
	AcquireSRWLockShared(&listening);
	for (struct listener *l = listeners; l; l = l->next)
		if (l->about == (char)(INT_PTR)about)
			l->callback(l->context, row, MibParameterNotification);
	ReleaseSRWLockShared(&listening);
	return 0;
}

static void changed(char about) { CloseHandle(CreateThread(NULL, 0, tell, (void *)(INT_PTR)about, 0, NULL)); }

static NETIO_STATUS listen_to(char about, void *callback, void *context, HANDLE *handle)
{
	struct listener *l = malloc(sizeof *l);
	*l = (struct listener){.callback = callback, .context = context, .about = about};
	AcquireSRWLockExclusive(&listening);
	l->next = listeners;
	listeners = l;
	ReleaseSRWLockExclusive(&listening);
	*handle = l;
	return NO_ERROR;
}

EXPORT NETIO_STATUS WINAPI NotifyIpInterfaceChange(ADDRESS_FAMILY family, PIPINTERFACE_CHANGE_CALLBACK callback, void *context, BOOLEAN initial, HANDLE *handle)
{
	return listen_to('i', callback, context, handle);
}

EXPORT NETIO_STATUS WINAPI NotifyUnicastIpAddressChange(ADDRESS_FAMILY family, PUNICAST_IPADDRESS_CHANGE_CALLBACK callback, void *context, BOOLEAN initial, HANDLE *handle)
{
	return listen_to('a', callback, context, handle);
}

EXPORT NETIO_STATUS WINAPI NotifyRouteChange2(ADDRESS_FAMILY family, PIPFORWARD_CHANGE_CALLBACK callback, void *context, BOOLEAN initial, HANDLE *handle)
{
	return listen_to('r', callback, context, handle);
}

EXPORT NETIO_STATUS WINAPI CancelMibChangeNotify2(HANDLE handle)
{
	AcquireSRWLockExclusive(&listening);
	for (struct listener **l = &listeners; *l; l = &(*l)->next)
		if (*l == handle) {
			*l = (*l)->next;
			free(handle);
			break;
		}
	ReleaseSRWLockExclusive(&listening);
	return NO_ERROR;
}

// extended gives a table of Wine's with room for more rows behind its own.
static void *extended(void *table, size_t header, size_t row, unsigned more)
{
	size_t size = header + *(ULONG *)table * row;
	void *larger = HeapAlloc(GetProcessHeap(), HEAP_ZERO_MEMORY, size + more * row); // FreeMibTable wants that heap
	memcpy(larger, table, size);
	WINES(FreeMibTable)(table);
	return larger;
}

EXPORT NETIO_STATUS WINAPI GetIfTable2Ex(MIB_IF_TABLE_LEVEL level, MIB_IF_TABLE2 **table)
{
	NETIO_STATUS failed = WINES(GetIfTable2Ex)(level, table);
	if (failed)
		return failed;
	MIB_IF_TABLE2 *t = *table = extended(*table, offsetof(MIB_IF_TABLE2, Table), sizeof *t->Table, ADAPTERS);
	struct computer *c = enter();
	for (int i = 0; i < ADAPTERS; i++) {
		struct adapter *a = &c->adapter[i];
		if (!a->process)
			continue;
		MIB_IF_ROW2 *row = &t->Table[t->NumEntries++];
		row->InterfaceLuid = a->luid;
		row->InterfaceIndex = a->index;
		row->InterfaceGuid = a->guid;
		row->Type = IF_TYPE_PROP_VIRTUAL;
		row->OperStatus = IfOperStatusUp;
		wcscpy(row->Alias, a->name);
	}
	leave();
	return NO_ERROR;
}

EXPORT NETIO_STATUS WINAPI GetIpForwardTable2(ADDRESS_FAMILY family, MIB_IPFORWARD_TABLE2 **table)
{
	NETIO_STATUS failed = WINES(GetIpForwardTable2)(family, table);
	if (failed)
		return failed;
	MIB_IPFORWARD_TABLE2 *t = *table = extended(*table, offsetof(MIB_IPFORWARD_TABLE2, Table), sizeof *t->Table, ROWS);
	struct computer *c = enter();
	for (unsigned i = 0; i < c->routes; i++)
		if (!family || family == c->route[i].DestinationPrefix.Prefix.si_family)
			t->Table[t->NumEntries++] = c->route[i];
	leave();
	return NO_ERROR;
}

// room is where one structure after another is put at a buffer's end.
struct room {
	char *next;
};

static void *take(struct room *r, size_t size)
{
	void *taken = r->next;
	memset(taken, 0, size);
	r->next += (size + 15) & ~15;
	return taken;
}

static SOCKET_ADDRESS take_address(struct room *r, const SOCKADDR_INET *a)
{
	SOCKET_ADDRESS taken = {take(r, sizeof *a), a->si_family == AF_INET6 ? sizeof a->Ipv6 : sizeof a->Ipv4};
	memcpy(taken.lpSockaddr, a, taken.iSockaddrLength);
	return taken;
}

static WCHAR *take_text(struct room *r, const WCHAR *text)
{
	return wcscpy(take(r, (wcslen(text) + 1) * sizeof *text), text);
}

static void take_servers(struct room *r, IP_ADAPTER_ADDRESSES *to, const WCHAR *servers, int family)
{
	IP_ADAPTER_DNS_SERVER_ADDRESS_XP **last = &to->FirstDnsServerAddress;
	WCHAR list[NAME], *end;
	while (*last)
		last = &(*last)->Next;
	wcscpy(list, servers);
	for (WCHAR *one = wcstok(list, L","); one; one = wcstok(NULL, L",")) {
		SOCKADDR_INET a = {.si_family = family};
		if (family == AF_INET6)
			RtlIpv6StringToAddressW(one, &end, &a.Ipv6.sin6_addr);
		else
			RtlIpv4StringToAddressW(one, TRUE, &end, &a.Ipv4.sin_addr);
		*last = take(r, sizeof **last);
		(*last)->Length = sizeof **last;
		(*last)->Address = take_address(r, &a);
		last = &(*last)->Next;
	}
}

static IP_ADAPTER_ADDRESSES *take_adapter(struct room *r, struct computer *c, struct adapter *a)
{
	IP_ADAPTER_ADDRESSES *to = take(r, sizeof *to);
	IP_ADAPTER_UNICAST_ADDRESS **last = &to->FirstUnicastAddress;
	WCHAR kind[NAME];
	to->Length = sizeof *to;
	to->IfIndex = to->Ipv6IfIndex = a->index;
	to->Luid = a->luid;
	to->IfType = IF_TYPE_PROP_VIRTUAL;
	to->OperStatus = IfOperStatusUp;
	to->Mtu = a->stack[0].NlMtu;
	to->Ipv4Metric = a->stack[0].Metric;
	to->Ipv6Metric = a->stack[1].Metric;
	to->AdapterName = take(r, 64);
	StringFromGUID2(&a->guid, kind, NAME);
	sprintf(to->AdapterName, "%ls", kind);
	_snwprintf(kind, NAME, L"%ls Tunnel", a->kind);
	to->FriendlyName = take_text(r, a->name);
	to->Description = take_text(r, kind);
	to->DnsSuffix = take_text(r, L"");
	for (unsigned i = 0; i < c->addresses; i++) {
		if (c->address[i].InterfaceLuid.Value != a->luid.Value)
			continue;
		*last = take(r, sizeof **last);
		(*last)->Length = sizeof **last;
		(*last)->Address = take_address(r, &c->address[i].Address);
		(*last)->DadState = IpDadStatePreferred;
		(*last)->OnLinkPrefixLength = c->address[i].OnLinkPrefixLength;
		last = &(*last)->Next;
	}
	take_servers(r, to, a->servers[0], AF_INET);
	take_servers(r, to, a->servers[1], AF_INET6);
	return to;
}

#define MORE 0x8000 // bytes, enough for what take_adapter puts there

EXPORT ULONG WINAPI GetAdaptersAddresses(ULONG family, ULONG flags, void *reserved, IP_ADAPTER_ADDRESSES *all, ULONG *size)
{
	ULONG room = *size > MORE ? *size - MORE : 0, needed = room;
	ULONG failed = WINES(GetAdaptersAddresses)(family, flags, reserved, room ? all : NULL, &needed);
	if (failed) {
		*size = needed + MORE;
		return failed;
	}
	struct room r = {(char *)(((UINT_PTR)all + room + 15) & ~(UINT_PTR)15)};
	IP_ADAPTER_ADDRESSES *last = all;
	while (last->Next)
		last = last->Next;
	struct computer *c = enter();
	for (int i = 0; i < ADAPTERS; i++)
		if (c->adapter[i].process)
			last = last->Next = take_adapter(&r, c, &c->adapter[i]);
	leave();
	return NO_ERROR;
}

EXPORT NETIO_STATUS WINAPI ConvertInterfaceLuidToGuid(const NET_LUID *luid, GUID *guid)
{
	struct adapter *a = by_luid(enter(), *luid);
	if (a)
		*guid = a->guid;
	leave();
	return a ? NO_ERROR : WINES(ConvertInterfaceLuidToGuid)(luid, guid);
}

EXPORT void WINAPI InitializeIpInterfaceEntry(MIB_IPINTERFACE_ROW *row) { memset(row, 0, sizeof *row); }
EXPORT void WINAPI InitializeUnicastIpAddressEntry(MIB_UNICASTIPADDRESS_ROW *row) { memset(row, 0, sizeof *row); }
EXPORT void WINAPI InitializeIpForwardEntry(MIB_IPFORWARD_ROW2 *row) { memset(row, 0, sizeof *row); }

// stack is an interface's row of a family. Only wintun's have one here.
static MIB_IPINTERFACE_ROW *stack(struct computer *c, const MIB_IPINTERFACE_ROW *of)
{
	struct adapter *a = by_luid(c, of->InterfaceLuid);
	return a ? &a->stack[of->Family == AF_INET6] : NULL;
}

EXPORT NETIO_STATUS WINAPI GetIpInterfaceEntry(MIB_IPINTERFACE_ROW *row)
{
	MIB_IPINTERFACE_ROW *is = stack(enter(), row);
	if (is)
		*row = *is;
	leave();
	return is ? NO_ERROR : ERROR_NOT_FOUND;
}

EXPORT NETIO_STATUS WINAPI SetIpInterfaceEntry(MIB_IPINTERFACE_ROW *row)
{
	struct computer *c = enter();
	MIB_IPINTERFACE_ROW *is = stack(c, row);
	if (is) {
		*is = *row;
		note("set %ls ipv%d mtu %lu metric %lu automatic %d dad %lu routers %d", name(c, row->InterfaceLuid), row->Family == AF_INET6 ? 6 : 4,
		     row->NlMtu, row->Metric, row->UseAutomaticMetric, row->DadTransmits, row->RouterDiscoveryBehavior);
	}
	leave();
	changed('i');
	return is ? NO_ERROR : ERROR_NOT_FOUND;
}

static MIB_IPFORWARD_ROW2 *find_route(struct computer *c, const MIB_IPFORWARD_ROW2 *row)
{
	for (unsigned i = 0; i < c->routes; i++)
		if (c->route[i].InterfaceLuid.Value == row->InterfaceLuid.Value && same(&c->route[i].NextHop, &row->NextHop) &&
		    same(&c->route[i].DestinationPrefix.Prefix, &row->DestinationPrefix.Prefix) &&
		    c->route[i].DestinationPrefix.PrefixLength == row->DestinationPrefix.PrefixLength)
			return &c->route[i];
	return NULL;
}

static void note_route(struct computer *c, char sign, const MIB_IPFORWARD_ROW2 *row)
{
	note("route %c %s/%u via %s dev %ls metric %lu", sign, text(&row->DestinationPrefix.Prefix), row->DestinationPrefix.PrefixLength,
	     text(&row->NextHop), name(c, row->InterfaceLuid), row->Metric);
}

static NETIO_STATUS add_route(struct computer *c, const MIB_IPFORWARD_ROW2 *row)
{
	if (!name(c, row->InterfaceLuid))
		return ERROR_NOT_FOUND;
	if (row->NextHop.si_family != row->DestinationPrefix.Prefix.si_family || c->routes == ROWS)
		return ERROR_INVALID_PARAMETER;
	if (find_route(c, row))
		return ERROR_OBJECT_ALREADY_EXISTS;
	c->route[c->routes++] = *row;
	return NO_ERROR;
}

EXPORT NETIO_STATUS WINAPI CreateIpForwardEntry2(const MIB_IPFORWARD_ROW2 *row)
{
	struct computer *c = enter();
	NETIO_STATUS failed = add_route(c, row);
	if (!failed)
		note_route(c, '+', row);
	leave();
	changed('r');
	return failed;
}

EXPORT NETIO_STATUS WINAPI GetIpForwardEntry2(MIB_IPFORWARD_ROW2 *row)
{
	MIB_IPFORWARD_ROW2 *is = find_route(enter(), row);
	if (is)
		*row = *is;
	leave();
	return is ? NO_ERROR : ERROR_NOT_FOUND;
}

EXPORT NETIO_STATUS WINAPI DeleteIpForwardEntry2(const MIB_IPFORWARD_ROW2 *row)
{
	struct computer *c = enter();
	MIB_IPFORWARD_ROW2 *is = find_route(c, row);
	if (is) {
		note_route(c, '-', is);
		*is = c->route[--c->routes];
	}
	leave();
	changed('r');
	return is ? NO_ERROR : ERROR_NOT_FOUND;
}

static MIB_UNICASTIPADDRESS_ROW *find_address(struct computer *c, const MIB_UNICASTIPADDRESS_ROW *row)
{
	for (unsigned i = 0; i < c->addresses; i++)
		if (c->address[i].InterfaceLuid.Value == row->InterfaceLuid.Value && same(&c->address[i].Address, &row->Address))
			return &c->address[i];
	return NULL;
}

// own_route is the route that Windows gives an interface for its own address.
static MIB_IPFORWARD_ROW2 own_route(const MIB_UNICASTIPADDRESS_ROW *row)
{
	return (MIB_IPFORWARD_ROW2){
		.InterfaceLuid = row->InterfaceLuid, .NextHop = {.si_family = row->Address.si_family}, .Metric = 256,
		.DestinationPrefix = {row->Address, row->Address.si_family == AF_INET6 ? 128 : 32},
	};
}

EXPORT NETIO_STATUS WINAPI CreateUnicastIpAddressEntry(const MIB_UNICASTIPADDRESS_ROW *row)
{
	struct computer *c = enter();
	NETIO_STATUS failed = !by_luid(c, row->InterfaceLuid) ? ERROR_NOT_FOUND : find_address(c, row) ? ERROR_OBJECT_ALREADY_EXISTS : NO_ERROR;
	if (!failed) {
		MIB_IPFORWARD_ROW2 own = own_route(row);
		c->address[c->addresses++] = *row;
		add_route(c, &own);
		note("address + %s/%u dev %ls", text(&row->Address), row->OnLinkPrefixLength, name(c, row->InterfaceLuid));
	}
	leave();
	changed('a');
	return failed;
}

EXPORT NETIO_STATUS WINAPI DeleteUnicastIpAddressEntry(const MIB_UNICASTIPADDRESS_ROW *row)
{
	struct computer *c = enter();
	MIB_UNICASTIPADDRESS_ROW *is = find_address(c, row);
	if (is) {
		MIB_IPFORWARD_ROW2 own = own_route(row), *route = find_route(c, &own);
		if (route)
			*route = c->route[--c->routes];
		note("address - %s dev %ls", text(&row->Address), name(c, row->InterfaceLuid));
		*is = c->address[--c->addresses];
	}
	leave();
	changed('a');
	return is ? NO_ERROR : ERROR_NOT_FOUND;
}

// DNS_INTERFACE_SETTINGS, which mingw-w64 does not have.
struct dns_settings {
	ULONG version;
	ULONG64 flags;
	WCHAR *domain, *servers, *search;
};

// keep_names puts them where Windows keeps them, also when the interface has gone.
static void keep_names(const GUID *guid, BOOL ipv6, const WCHAR *value, const WCHAR *text)
{
	WCHAR path[NAME], id[40];
	StringFromGUID2(guid, id, 40);
	_snwprintf(path, NAME, L"SYSTEM\\CurrentControlSet\\Services\\Tcpip%ls\\Parameters\\Interfaces\\%ls", ipv6 ? L"6" : L"", id);
	RegSetKeyValueW(HKEY_LOCAL_MACHINE, path, value, REG_SZ, text, (wcslen(text) + 1) * sizeof *text);
}

#define FLAG_IPV6 0x1
#define FLAG_SERVERS 0x2
#define FLAG_SEARCH 0x4

EXPORT NETIO_STATUS WINAPI SetInterfaceDnsSettings(const GUID *guid, const struct dns_settings *s)
{
	struct computer *c = enter();
	BOOL found = FALSE, ipv6 = s->flags & FLAG_IPV6;
	for (int i = 0; i < ADAPTERS; i++) {
		struct adapter *a = &c->adapter[i];
		if (!a->process || !IsEqualGUID(&a->guid, guid))
			continue;
		if (s->version != 1 || (s->flags & ~FLAG_IPV6) != (FLAG_SERVERS | FLAG_SEARCH))
			break;
		found = TRUE;
		wcsncpy(a->servers[ipv6], s->servers, NAME - 1);
		keep_names(guid, ipv6, L"NameServer", s->servers);
		keep_names(guid, ipv6, L"SearchList", s->search);
		note("names %ls ipv%d servers [%ls] search [%ls]", a->name, ipv6 ? 6 : 4, s->servers, s->search);
	}
	leave();
	return found ? NO_ERROR : ERROR_INVALID_PARAMETER;
}
