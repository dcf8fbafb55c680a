// Stand-in for wintun.dll: what the system would send into the tunnel comes as datagrams to
// port 7001 of 127.0.0.1, and what comes out of it goes to port 7002.
#include "computer.h"

#define FROM_SYSTEM 7001
#define TO_SYSTEM 7002
#define MAX_PACKET 0xffff
#define RING 512 // packets that wait

struct packet {
	DWORD size;
	BYTE data[MAX_PACKET];
};

struct session {
	SOCKET socket;
	struct sockaddr_in out;
	HANDLE ready, reader;
	CRITICAL_SECTION lock;
	struct packet *ring[RING];
	unsigned first, count;
	volatile LONG ended;
};

static struct sockaddr_in loopback(int port)
{
	return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static DWORD WINAPI read_socket(void *argument)
{
	struct session *s = argument;
	while (!s->ended) {
		struct packet *p = malloc(sizeof *p);
		int size = recv(s->socket, (char *)p->data, MAX_PACKET, 0);
		EnterCriticalSection(&s->lock);
		if (size > 0 && s->count < RING) {
			p->size = size;
			s->ring[(s->first + s->count++) % RING] = p;
			p = NULL;
		}
		LeaveCriticalSection(&s->lock);
		free(p);
		SetEvent(s->ready);
	}
	return 0;
}

// A driver's description begins with the kind, and its interface has what Windows gives one.
EXPORT struct adapter *WINAPI WintunCreateAdapter(const WCHAR *name, const WCHAR *kind, const GUID *guid)
{
	struct computer *c = enter();
	struct adapter *a = c->adapter;
	while (a < c->adapter + ADAPTERS && a->process)
		a++;
	if (a < c->adapter + ADAPTERS) {
		int n = a - c->adapter + 1;
		a->process = GetCurrentProcessId();
		a->luid.Info.IfType = IF_TYPE_PROP_VIRTUAL;
		a->luid.Info.NetLuidIndex = n;
		a->index = 1000 + n; // beyond Linux's
		a->guid = *guid;
		wcsncpy(a->name, name, IF_MAX_STRING_SIZE);
		wcsncpy(a->kind, kind, IF_MAX_STRING_SIZE);
		for (int i = 0; i < 2; i++)
			a->stack[i] = (MIB_IPINTERFACE_ROW){
				.Family = i ? AF_INET6 : AF_INET, .InterfaceLuid = a->luid, .InterfaceIndex = a->index, .Connected = TRUE,
				.NlMtu = 65535, .UseAutomaticMetric = TRUE, .Metric = 5, .DadTransmits = i ? 1 : 3, .RouterDiscoveryBehavior = RouterDiscoveryDhcp,
			};
		note("interface + %ls, of %ls", name, kind);
	} else {
		a = NULL;
		SetLastError(ERROR_GEN_FAILURE);
	}
	leave();
	return a;
}

EXPORT void *WINAPI WintunOpenAdapter(const WCHAR *name)
{
	SetLastError(ERROR_NOT_FOUND);
	return NULL;
}

EXPORT void WINAPI WintunCloseAdapter(struct adapter *a)
{
	remove_adapter(enter(), a);
	leave();
}

// What removes the driver when Wayfarer is removed; it only leaves a sign.
EXPORT BOOL WINAPI WintunDeleteDriver(void)
{
	return CloseHandle(CreateFileW(L"C:\\driver-deleted", GENERIC_WRITE, 0, NULL, CREATE_NEW, 0, NULL));
}

EXPORT void WINAPI WintunGetAdapterLUID(struct adapter *a, NET_LUID *luid) { *luid = a->luid; }
EXPORT DWORD WINAPI WintunGetRunningDriverVersion(void) { return 14; }
EXPORT void WINAPI WintunSetLogger(void *callback) {}

EXPORT void *WINAPI WintunStartSession(struct adapter *a, DWORD capacity)
{
	struct session *s = calloc(1, sizeof *s);
	struct sockaddr_in in = loopback(FROM_SYSTEM);
	WSADATA data;
	WSAStartup(MAKEWORD(2, 2), &data);
	s->out = loopback(TO_SYSTEM);
	s->socket = socket(AF_INET, SOCK_DGRAM, 0);
	if (bind(s->socket, (struct sockaddr *)&in, sizeof in)) {
		free(s);
		SetLastError(ERROR_GEN_FAILURE);
		return NULL;
	}
	InitializeCriticalSection(&s->lock);
	s->ready = CreateEventA(NULL, FALSE, FALSE, NULL);
	s->reader = CreateThread(NULL, 0, read_socket, s, 0, NULL);
	return s;
}

EXPORT void WINAPI WintunEndSession(struct session *s)
{
	InterlockedExchange(&s->ended, 1);
	closesocket(s->socket);
	SetEvent(s->ready);
	WaitForSingleObject(s->reader, 1000);
}

EXPORT HANDLE WINAPI WintunGetReadWaitEvent(struct session *s) { return s->ready; }

EXPORT BYTE *WINAPI WintunReceivePacket(struct session *s, DWORD *size)
{
	struct packet *p = NULL;
	EnterCriticalSection(&s->lock);
	if (s->count) {
		p = s->ring[s->first];
		s->first = (s->first + 1) % RING;
		s->count--;
	}
	LeaveCriticalSection(&s->lock);
	if (!p) {
		SetLastError(s->ended ? ERROR_HANDLE_EOF : ERROR_NO_MORE_ITEMS);
		return NULL;
	}
	*size = p->size;
	return p->data;
}

EXPORT void WINAPI WintunReleaseReceivePacket(struct session *s, BYTE *data)
{
	free(data - offsetof(struct packet, data));
}

EXPORT BYTE *WINAPI WintunAllocateSendPacket(struct session *s, DWORD size)
{
	struct packet *p = malloc(sizeof *p);
	p->size = size;
	return p->data;
}

EXPORT void WINAPI WintunSendPacket(struct session *s, BYTE *data)
{
	struct packet *p = (struct packet *)(data - offsetof(struct packet, data));
	sendto(s->socket, (char *)p->data, p->size, 0, (struct sockaddr *)&s->out, sizeof s->out);
	free(p);
}
