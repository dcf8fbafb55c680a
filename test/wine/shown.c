// Stand-in for the window's program: it leaves a sign that it was started, and runs until it is
// ended.
#include <windows.h>

int WINAPI WinMain(HINSTANCE instance, HINSTANCE before, LPSTR arguments, int show)
{
	CloseHandle(CreateFileW(L"C:\\shown", GENERIC_WRITE, 0, NULL, CREATE_NEW, 0, NULL));
	Sleep(INFINITE);
	return 0;
}
