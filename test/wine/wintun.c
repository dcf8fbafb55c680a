// Stand-in for wintun.dll: what the system would send into the tunnel comes as datagrams to
// the port WINTUN_IN of 127.0.0.1, and what comes out of it goes to WINTUN_OUT.
#include <winsock2.h>
#include <windows.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __declspec(dllexport)
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

static struct sockaddr_in loopback(const char *variable)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	char port[16];
	if (GetEnvironmentVariableA(variable, port, sizeof port))
		address.sin_port = htons(atoi(port));
	return address;
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

EXPORT void *WINAPI WintunCreateAdapter(const WCHAR *name, const WCHAR *type, const GUID *guid)
{
	return calloc(1, 1);
}

EXPORT void *WINAPI WintunOpenAdapter(const WCHAR *name)
{
	SetLastError(ERROR_NOT_FOUND);
	return NULL;
}

EXPORT void WINAPI WintunCloseAdapter(void *adapter) { free(adapter); }

// What removes the driver when Wayfarer is removed; it only leaves a sign.
EXPORT BOOL WINAPI WintunDeleteDriver(void)
{
	return CloseHandle(CreateFileW(L"C:\\driver-deleted", GENERIC_WRITE, 0, NULL, CREATE_NEW, 0, NULL));
}

EXPORT void WINAPI WintunGetAdapterLUID(void *adapter, ULONG64 *luid) { *luid = (ULONG64)53 << 48 | 1 << 24; }
EXPORT DWORD WINAPI WintunGetRunningDriverVersion(void) { return 14; }
EXPORT void WINAPI WintunSetLogger(void *callback) {}

EXPORT void *WINAPI WintunStartSession(void *adapter, DWORD capacity)
{
	struct session *s = calloc(1, sizeof *s);
	struct sockaddr_in in = loopback("WINTUN_IN");
	WSADATA data;
	WSAStartup(MAKEWORD(2, 2), &data);
	s->out = loopback("WINTUN_OUT");
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
