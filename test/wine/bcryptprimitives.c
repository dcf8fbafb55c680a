// Stand-in for the library of Windows that Go takes random numbers from: Debian 12's Wine
// has none.
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(void *buffer, ULONG size); // RtlGenRandom, of advapi32

__declspec(dllexport) BOOL WINAPI ProcessPrng(BYTE *buffer, SIZE_T size)
{
	return SystemFunction036(buffer, (ULONG)size);
}
